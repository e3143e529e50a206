// The bias of a convolution, which cuDNN's plain convolution leaves out: added to the output, and its gradient.

#define SUM_THREADS 128

// y [planes / channels, channels, area] += bias [channels], `packs` packs of W that never cross planes.
template <class T, int W>
__device__ void bias_add(T* y, const float* bias, u64 packs, u32 channels, u32 area) {
    Pack<T, W>* all = (Pack<T, W>*)y;
    u32 packs_a_plane = area / W;
    u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < packs; i += step) {
        float add = bias[(u32)((i / packs_a_plane) % channels)];
        Pack<T, W> pack = all[i];
        for (int w = 0; w < W; w++) {
            put(pack.at[w], to_float(pack.at[w]) + add);
        }
        all[i] = pack;
    }
}

// sums[plane] = sum of dy[plane][..]. A block a plane.
template <class T, int W>
__device__ void plane_sums(const T* dy, float* sums, u32 area) {
    __shared__ float shared[SUM_THREADS];
    const Pack<T, W>* plane = (const Pack<T, W>*)(dy + (u64)blockIdx.x * area);
    float sum = 0.0f;
    for (u32 i = threadIdx.x; i < area / W; i += SUM_THREADS) {
        Pack<T, W> pack = plane[i];
        for (int w = 0; w < W; w++) {
            sum += to_float(pack.at[w]);
        }
    }
    sum = block_sum<SUM_THREADS>(sum, shared);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = sum;
    }
}

#define KERNELS(NAME, T, W)                                                                                        \
    extern "C" __global__ void bias_add_##NAME(T* y, const float* bias, u64 packs, u32 channels, u32 area) {       \
        bias_add<T, W>(y, bias, packs, channels, area);                                                            \
    }                                                                                                              \
    extern "C" __global__ void plane_sums_##NAME(const T* dy, float* sums, u32 area) {                             \
        plane_sums<T, W>(dy, sums, area);                                                                          \
    }

KERNELS(f32, float, 1)
KERNELS(f32_wide, float, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16_wide, bf16, 8)
