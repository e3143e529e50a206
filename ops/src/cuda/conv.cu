// What is added to the output of a convolution, which cuDNN's plain convolution leaves out, and the gradient of its bias.

#define SUM_THREADS 128
#define COLUMN_THREADS 256

// y += bias and, unless null, += beside, which is laid out like y. y is `packs` packs of W that never cross planes:
// [batch, channels, area], or with LAST [positions, channels].
template <class T, int W, bool LAST>
__device__ void bias_add(T* y, const float* bias, const T* beside, u64 packs, u32 channels, u32 area) {
    Pack<T, W>* all = (Pack<T, W>*)y;
    const Pack<T, W>* others = (const Pack<T, W>*)beside;
    u32 packs_a_plane = area / W, packs_a_row = channels / W;
    u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < packs; i += step) {
        u32 channel = LAST ? (u32)(i % packs_a_row) * W : (u32)((i / packs_a_plane) % channels);
        Pack<T, W> pack = all[i], other;
        if (beside) {
            other = others[i];
        }
        for (int w = 0; w < W; w++) {
            float sum = to_float(pack.at[w]) + bias[LAST ? channel + w : channel];
            put(pack.at[w], beside ? sum + to_float(other.at[w]) : sum);
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

// parts [blocks, channels]: the sums over `span` rows of dy [rows, channels].
template <class T, int W>
__device__ void column_sums(const T* dy, float* parts, u32 channels, u32 rows, u32 span) {
    __shared__ float shared[COLUMN_THREADS * W];
    u32 packs = channels / W, first = blockIdx.x * span, end = rows - first < span ? rows : first + span;
    Lanes<COLUMN_THREADS> at(packs);
    const Pack<T, W>* in = (const Pack<T, W>*)dy;
    for (u32 from = 0; from < packs; from += at.width) {
        u32 pack = from + at.slot;
        float sums[W];
        for (int w = 0; w < W; w++) {
            sums[w] = 0.0f;
        }
        if (at.lane < at.lanes && pack < packs) {
            for (u32 row = first + at.lane; row < end; row += at.lanes) {
                Pack<T, W> values = in[(u64)row * packs + pack];
                for (int w = 0; w < W; w++) {
                    sums[w] += to_float(values.at[w]);
                }
            }
        }
        u32 here = packs - from < at.width ? packs - from : at.width;
        add_lanes<COLUMN_THREADS, W>(at, here, sums, shared, parts + (u64)blockIdx.x * channels + from * W);
    }
}

#define KERNELS(NAME, T, W)                                                                                        \
    extern "C" __global__ void bias_add_##NAME(T* y, const float* bias, const T* beside, u64 packs, u32 channels,  \
                                               u32 area) {                                                         \
        bias_add<T, W, false>(y, bias, beside, packs, channels, area);                                             \
    }                                                                                                              \
    extern "C" __global__ void bias_add_last_##NAME(T* y, const float* bias, const T* beside, u64 packs,           \
                                                    u32 channels, u32 area) {                                      \
        bias_add<T, W, true>(y, bias, beside, packs, channels, area);                                              \
    }                                                                                                              \
    extern "C" __global__ void plane_sums_##NAME(const T* dy, float* sums, u32 area) {                             \
        plane_sums<T, W>(dy, sums, area);                                                                          \
    }                                                                                                              \
    extern "C" __global__ void __launch_bounds__(COLUMN_THREADS)                                                   \
        column_sums_##NAME(const T* dy, float* parts, u32 channels, u32 rows, u32 span) {                          \
        column_sums<T, W>(dy, parts, channels, rows, span);                                                        \
    }

KERNELS(f32, float, 1)
KERNELS(f32_wide, float, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16_wide, bf16, 8)
