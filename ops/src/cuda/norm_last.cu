// Group normalisation with swish, as in norm.cu, of maps whose channels are last: x, y, dy, dx are [batch, area, channels]. What was
// normalised is x + before, `before` [channels] or null: the bias of the convolution that made x costs no pass of its own.
// A block takes `span` positions of a picture, the last of its `chunks` blocks what is left. norm.cuh comes before this. Statistics and
// sums are f32 whatever T is, and every sum has a fixed order. W numbers are read as one; W divides channels.

#define LAST_THREADS 256
#define GROUP_THREADS 128

// Where a block is.
struct Chunk {
    u32 picture, first, rows;
    __device__ Chunk(u32 area, u32 span, u32 chunks) {
        picture = blockIdx.x / chunks;
        first = blockIdx.x % chunks * span;
        rows = area - first < span ? area - first : span;
    }
};

__device__ inline float bias_before(const float* before, u32 channel) { return before ? before[channel] : 0.0f; }

// What each thread knows of its W channels.
template <int W>
struct Channels {
    float shift[W], scale[W], by[W], add[W];
    __device__ Channels(const float* before, const float* stats, const float* weight, const float* bias, u32 picture, u32 first, u32 channels,
                        u32 groups) {
        for (int w = 0; w < W; w++) {
            u32 channel = first + w;
            const float* stat = stats + 2 * ((u64)picture * groups + channel / (channels / groups));
            shift[w] = stat[0] - bias_before(before, channel);
            scale[w] = stat[1];
            by[w] = weight[channel];
            add[w] = bias[channel];
        }
    }
    __device__ float unit(int w, float x) const { return (x - shift[w]) * scale[w]; }
};

// parts [batch, chunks, 2, channels]: mean of x, and sum of squared deviations from it, of a chunk's numbers in a channel.
template <class T, int W>
__device__ void last_moments(const T* x, float* parts, u32 channels, u32 area, u32 span, u32 chunks) {
    __shared__ float means[LAST_THREADS * W], deviations[LAST_THREADS * W];
    u32 packs = channels / W;
    Lanes<LAST_THREADS> at(packs);
    Chunk chunk(area, span, chunks);
    const Pack<T, W>* in = (const Pack<T, W>*)x + ((u64)chunk.picture * area + chunk.first) * packs;
    float* out = parts + (u64)blockIdx.x * 2 * channels;
    for (u32 from = 0; from < packs; from += at.width) {
        u32 pack = from + at.slot;
        float mean[W], apart[W];
        for (int w = 0; w < W; w++) {
            mean[w] = apart[w] = 0.0f;
        }
        if (at.lane < at.lanes && pack < packs) {
            // Welford 1962.
            float count = 0.0f;
            for (u32 row = at.lane; row < chunk.rows; row += at.lanes) {
                Pack<T, W> values = in[(u64)row * packs + pack];
                count += 1.0f;
                float share = 1.0f / count;
                for (int w = 0; w < W; w++) {
                    float value = to_float(values.at[w]), before = value - mean[w];
                    mean[w] += before * share;
                    apart[w] += before * (value - mean[w]);
                }
            }
        }
        for (int w = 0; w < W; w++) {
            means[w * LAST_THREADS + threadIdx.x] = mean[w];
            deviations[w * LAST_THREADS + threadIdx.x] = apart[w];
        }
        __syncthreads();
        u32 here = packs - from < at.width ? packs - from : at.width;
        for (u32 i = threadIdx.x; i < here * W; i += LAST_THREADS) {
            u32 w = i / here, slot = i % here, channel = (from + slot) * W + w;
            Moments all = {0.0f, 0.0f, 0.0f};
            for (u32 lane = 0; lane < at.lanes && lane < chunk.rows; lane++) {
                u32 place = w * LAST_THREADS + lane * at.width + slot;
                Moments one = {(float)((chunk.rows - lane - 1) / at.lanes + 1), means[place], deviations[place]};
                all = merge(all, one);
            }
            out[channel] = all.mean;
            out[channels + channel] = all.deviations;
        }
        __syncthreads();
    }
}

// stats [batch * groups, 2]: mean, 1 / sqrt(variance + eps), of the parts that last_moments left. A block of GROUP_THREADS a group.
extern "C" __global__ void __launch_bounds__(GROUP_THREADS)
    norm_last_stats(const float* parts, const float* before, float* stats, u32 channels, u32 groups, u32 area, u32 span,
                    u32 chunks, float eps) {
    __shared__ Moments shared[GROUP_THREADS];
    u32 planes = channels / groups, picture = blockIdx.x / groups, first = blockIdx.x % groups * planes;
    Moments mine = {0.0f, 0.0f, 0.0f};
    for (u32 i = threadIdx.x; i < chunks * planes; i += GROUP_THREADS) {
        u32 chunk = i / planes, channel = first + i % planes, left = area - chunk * span;
        const float* part = parts + ((u64)picture * chunks + chunk) * 2 * channels + channel;
        Moments one = {(float)(left < span ? left : span), part[0] + bias_before(before, channel), part[channels]};
        mine = merge(mine, one);
    }
    Moments all = block_merge<GROUP_THREADS>(mine, shared);
    if (threadIdx.x == 0) {
        stats[2 * blockIdx.x] = all.mean;
        stats[2 * blockIdx.x + 1] = 1.0f / sqrtf(all.deviations / all.count + eps);
    }
}

template <class T, int W>
__device__ void last_forward(const T* x, const float* before, const float* stats, const float* weight, const float* bias, T* y,
                             u32 channels, u32 groups, u32 area, u32 span, u32 chunks, u32 swish) {
    u32 packs = channels / W;
    Lanes<LAST_THREADS> at(packs);
    Chunk chunk(area, span, chunks);
    u64 start = ((u64)chunk.picture * area + chunk.first) * packs;
    const Pack<T, W>* in = (const Pack<T, W>*)x + start;
    Pack<T, W>* out = (Pack<T, W>*)y + start;
    for (u32 pack = at.slot; at.lane < at.lanes && pack < packs; pack += at.width) {
        Channels<W> of(before, stats, weight, bias, chunk.picture, pack * W, channels, groups);
        for (u32 row = at.lane; row < chunk.rows; row += at.lanes) {
            Pack<T, W> values = in[(u64)row * packs + pack];
            for (int w = 0; w < W; w++) {
                put(values.at[w], after_swish(of.unit(w, to_float(values.at[w])) * of.by[w] + of.add[w], swish));
            }
            out[(u64)row * packs + pack] = values;
        }
    }
}

// parts [batch, chunks, 2, channels]: the chunk's part of the gradients of bias and weight.
template <class T, int W>
__device__ void last_sums(const T* x, const float* before, const T* dy, const float* stats, const float* weight, const float* bias,
                          float* parts, u32 channels, u32 groups, u32 area, u32 span, u32 chunks, u32 swish) {
    __shared__ float shared[LAST_THREADS * W];
    u32 packs = channels / W;
    Lanes<LAST_THREADS> at(packs);
    Chunk chunk(area, span, chunks);
    u64 start = ((u64)chunk.picture * area + chunk.first) * packs;
    const Pack<T, W>*in = (const Pack<T, W>*)x + start, *grad = (const Pack<T, W>*)dy + start;
    float* out = parts + (u64)blockIdx.x * 2 * channels;
    for (u32 from = 0; from < packs; from += at.width) {
        u32 pack = from + at.slot;
        float of_bias[W], of_weight[W];
        for (int w = 0; w < W; w++) {
            of_bias[w] = of_weight[w] = 0.0f;
        }
        if (at.lane < at.lanes && pack < packs) {
            Channels<W> of(before, stats, weight, bias, chunk.picture, pack * W, channels, groups);
            for (u32 row = at.lane; row < chunk.rows; row += at.lanes) {
                Pack<T, W> values = in[(u64)row * packs + pack], grads = grad[(u64)row * packs + pack];
                for (int w = 0; w < W; w++) {
                    float unit = of.unit(w, to_float(values.at[w]));
                    float du = before_swish(to_float(grads.at[w]), unit * of.by[w] + of.add[w], swish);
                    of_bias[w] += du;
                    of_weight[w] += du * unit;
                }
            }
        }
        u32 here = packs - from < at.width ? packs - from : at.width;
        add_lanes<LAST_THREADS, W>(at, here, of_bias, shared, out + from * W);
        add_lanes<LAST_THREADS, W>(at, here, of_weight, shared, out + channels + from * W);
    }
}

// As `backward` of norm.cu, and unless null `beside` is added; sums [batch, 2, channels].
template <class T, int W>
__device__ void last_backward(const T* x, const float* before, const T* dy, const float* stats, const float* weight, const float* bias,
                              const float* sums, const T* beside, T* dx, u32 channels, u32 groups, u32 area, u32 span, u32 chunks, u32 swish) {
    u32 packs = channels / W, planes = channels / groups;
    Lanes<LAST_THREADS> at(packs);
    Chunk chunk(area, span, chunks);
    u64 start = ((u64)chunk.picture * area + chunk.first) * packs;
    const Pack<T, W>*in = (const Pack<T, W>*)x + start, *grad = (const Pack<T, W>*)dy + start;
    const Pack<T, W>* others = (const Pack<T, W>*)beside + start;
    Pack<T, W>* out = (Pack<T, W>*)dx + start;
    const float* of_bias = sums + (u64)chunk.picture * 2 * channels;
    const float* of_weight = of_bias + channels;
    float count = (float)planes * (float)area;
    for (u32 pack = at.slot; at.lane < at.lanes && pack < packs; pack += at.width) {
        Channels<W> of(before, stats, weight, bias, chunk.picture, pack * W, channels, groups);
        float mean_g[W], mean_gz[W];
        for (int w = 0; w < W; w++) {
            u32 channel = pack * W + w, first = channel / planes * planes;
            if (w > 0 && channel != first) {
                // The group of the channel before.
                mean_g[w] = mean_g[w - 1];
                mean_gz[w] = mean_gz[w - 1];
            } else {
                float g = 0.0f, gz = 0.0f;
                for (u32 c = first; c < first + planes; c++) {
                    g += weight[c] * of_bias[c];
                    gz += weight[c] * of_weight[c];
                }
                mean_g[w] = g / count;
                mean_gz[w] = gz / count;
            }
        }
        for (u32 row = at.lane; row < chunk.rows; row += at.lanes) {
            Pack<T, W> values = in[(u64)row * packs + pack], grads = grad[(u64)row * packs + pack], other;
            if (beside) {
                other = others[(u64)row * packs + pack];
            }
            for (int w = 0; w < W; w++) {
                float unit = of.unit(w, to_float(values.at[w]));
                float g = before_swish(to_float(grads.at[w]), unit * of.by[w] + of.add[w], swish) * of.by[w];
                float of_x = of.scale[w] * (g - mean_g[w] - unit * mean_gz[w]);
                put(values.at[w], beside ? of_x + to_float(other.at[w]) : of_x);
            }
            out[(u64)row * packs + pack] = values;
        }
    }
}

#define KERNELS(NAME, T, W)                                                                                           \
    extern "C" __global__ void __launch_bounds__(LAST_THREADS)                                                        \
        norm_last_moments_##NAME(const T* x, float* parts, u32 channels, u32 area, u32 span, u32 chunks) {            \
        last_moments<T, W>(x, parts, channels, area, span, chunks);                                                   \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(LAST_THREADS)                                                        \
        norm_last_forward_##NAME(const T* x, const float* before, const float* stats, const float* weight,            \
                                 const float* bias, T* y, u32 channels, u32 groups, u32 area, u32 span, u32 chunks,   \
                                 u32 swish) {                                                                         \
        last_forward<T, W>(x, before, stats, weight, bias, y, channels, groups, area, span, chunks, swish);           \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(LAST_THREADS)                                                        \
        norm_last_sums_##NAME(const T* x, const float* before, const T* dy, const float* stats, const float* weight,  \
                              const float* bias, float* parts, u32 channels, u32 groups, u32 area, u32 span,          \
                              u32 chunks, u32 swish) {                                                                \
        last_sums<T, W>(x, before, dy, stats, weight, bias, parts, channels, groups, area, span, chunks, swish);      \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(LAST_THREADS)                                                        \
        norm_last_backward_##NAME(const T* x, const float* before, const T* dy, const float* stats,                   \
                                  const float* weight, const float* bias, const float* sums, const T* beside, T* dx,  \
                                  u32 channels, u32 groups, u32 area, u32 span, u32 chunks, u32 swish) {              \
        last_backward<T, W>(x, before, dy, stats, weight, bias, sums, beside, dx, channels, groups, area, span,       \
                            chunks, swish);                                                                           \
    }

KERNELS(f32, float, 1)
KERNELS(f32_wide, float, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16_wide, bf16, 8)
