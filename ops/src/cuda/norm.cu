// Group normalisation (Wu and He 2018; biased variance) with swish, u * sigmoid(u), where `swish` is not 0, and its gradients.
// x, y, dy, dx are [batch, channels, area]; a row is the channels / groups planes of one picture that are normalised together.
// norm.cuh comes before it. Statistics and sums are f32 whatever T is, and every sum has a fixed order. W numbers are read as one; W divides area.

#define ROW_THREADS 512
#define PLANE_THREADS 128

// Also writes stats [batch * groups, 2]: mean, 1 / sqrt(variance + eps). A block of ROW_THREADS a row.
template <class T, int W>
__device__ void forward(const T* x, const float* weight, const float* bias, T* y, float* stats, u32 channels,
                        u32 groups, u32 area, float eps, u32 swish) {
    __shared__ Moments shared[ROW_THREADS];
    u32 row = blockIdx.x, planes = channels / groups;
    u32 packs_a_plane = area / W, packs = planes * packs_a_plane;
    const Pack<T, W>* in = (const Pack<T, W>*)x + (u64)row * packs;
    Pack<T, W>* out = (Pack<T, W>*)y + (u64)row * packs;

    Moments mine = {0.0f, 0.0f, 0.0f};
    for (u32 i = threadIdx.x; i < packs; i += ROW_THREADS) {
        Pack<T, W> pack = in[i];
        float mean = 0.0f, deviations = 0.0f;
        for (int w = 0; w < W; w++) {
            mean += to_float(pack.at[w]);
        }
        mean *= 1.0f / W;
        for (int w = 0; w < W; w++) {
            float apart = to_float(pack.at[w]) - mean;
            deviations += apart * apart;
        }
        Moments of_pack = {(float)W, mean, deviations};
        mine = merge(mine, of_pack);
    }
    Moments all = block_merge<ROW_THREADS>(mine, shared);
    float mean = all.mean, scale = 1.0f / sqrtf(all.deviations / all.count + eps);
    if (threadIdx.x == 0) {
        stats[2 * row] = mean;
        stats[2 * row + 1] = scale;
    }

    u32 first = (row % groups) * planes;
    for (u32 i = threadIdx.x; i < packs; i += ROW_THREADS) {
        u32 channel = first + i / packs_a_plane;
        float by = weight[channel], add = bias[channel];
        Pack<T, W> pack = in[i];
        for (int w = 0; w < W; w++) {
            float u = (to_float(pack.at[w]) - mean) * scale * by + add;
            put(pack.at[w], after_swish(u, swish));
        }
        out[i] = pack;
    }
}

// sums [batch, 2, channels]: the plane's part of the gradients of bias and weight. A block of PLANE_THREADS a plane.
template <class T, int W>
__device__ void sums(const T* x, const T* dy, const float* weight, const float* bias, const float* stats, float* sums,
                     u32 channels, u32 groups, u32 area, u32 swish) {
    __shared__ float shared[PLANE_THREADS];
    u32 plane = blockIdx.x, channel = plane % channels, row = plane / (channels / groups);
    float mean = stats[2 * row], scale = stats[2 * row + 1], by = weight[channel], add = bias[channel];
    const Pack<T, W>* in = (const Pack<T, W>*)(x + (u64)plane * area);
    const Pack<T, W>* grad = (const Pack<T, W>*)(dy + (u64)plane * area);
    float of_bias = 0.0f, of_weight = 0.0f;
    for (u32 i = threadIdx.x; i < area / W; i += PLANE_THREADS) {
        Pack<T, W> values = in[i], grads = grad[i];
        for (int w = 0; w < W; w++) {
            float unit = (to_float(values.at[w]) - mean) * scale;
            float du = before_swish(to_float(grads.at[w]), unit * by + add, swish);
            of_bias += du;
            of_weight += du * unit;
        }
    }
    of_bias = block_sum<PLANE_THREADS>(of_bias, shared);
    of_weight = block_sum<PLANE_THREADS>(of_weight, shared);
    if (threadIdx.x == 0) {
        u64 at = (u64)(plane / channels) * 2 * channels + channel;
        sums[at] = of_bias;
        sums[at + channels] = of_weight;
    }
}

// With g = du * weight and z = (x - mean) * scale: dx = scale * (g - mean(g) - z * mean(g z)), means over the row.
// A block of ROW_THREADS a row.
template <class T, int W>
__device__ void backward(const T* x, const T* dy, const float* weight, const float* bias, const float* stats,
                         const float* sums, T* dx, u32 channels, u32 groups, u32 area, u32 swish) {
    u32 row = blockIdx.x, planes = channels / groups, first = (row % groups) * planes;
    u32 packs_a_plane = area / W, packs = planes * packs_a_plane;
    float mean = stats[2 * row], scale = stats[2 * row + 1];
    const float* of_bias = sums + (u64)(row / groups) * 2 * channels + first;
    const float* of_weight = of_bias + channels;
    float mean_g = 0.0f, mean_gz = 0.0f;
    for (u32 c = 0; c < planes; c++) {
        mean_g += weight[first + c] * of_bias[c];
        mean_gz += weight[first + c] * of_weight[c];
    }
    float count = (float)planes * (float)area;
    mean_g /= count;
    mean_gz /= count;

    const Pack<T, W>* in = (const Pack<T, W>*)x + (u64)row * packs;
    const Pack<T, W>* grad = (const Pack<T, W>*)dy + (u64)row * packs;
    Pack<T, W>* out = (Pack<T, W>*)dx + (u64)row * packs;
    for (u32 i = threadIdx.x; i < packs; i += ROW_THREADS) {
        u32 channel = first + i / packs_a_plane;
        float by = weight[channel], add = bias[channel];
        Pack<T, W> values = in[i], grads = grad[i];
        for (int w = 0; w < W; w++) {
            float unit = (to_float(values.at[w]) - mean) * scale;
            float g = before_swish(to_float(grads.at[w]), unit * by + add, swish) * by;
            put(values.at[w], scale * (g - mean_g - unit * mean_gz));
        }
        out[i] = values;
    }
}

#define KERNELS(NAME, T, W)                                                                                           \
    extern "C" __global__ void __launch_bounds__(ROW_THREADS)                                                         \
        norm_forward_##NAME(const T* x, const float* weight, const float* bias, T* y, float* stats, u32 channels,     \
                            u32 groups, u32 area, float eps, u32 swish) {                                             \
        forward<T, W>(x, weight, bias, y, stats, channels, groups, area, eps, swish);                                 \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(PLANE_THREADS)                                                       \
        norm_sums_##NAME(const T* x, const T* dy, const float* weight, const float* bias, const float* stats,         \
                         float* parts, u32 channels, u32 groups, u32 area, u32 swish) {                               \
        sums<T, W>(x, dy, weight, bias, stats, parts, channels, groups, area, swish);                                 \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(ROW_THREADS)                                                         \
        norm_backward_##NAME(const T* x, const T* dy, const float* weight, const float* bias, const float* stats,     \
                             const float* parts, T* dx, u32 channels, u32 groups, u32 area, u32 swish) {              \
        backward<T, W>(x, dy, weight, bias, stats, parts, dx, channels, groups, area, swish);                         \
    }

KERNELS(f32, float, 1)
KERNELS(f32_wide, float, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16_wide, bf16, 8)
