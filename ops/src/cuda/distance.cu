// The distance of LPIPS (Zhang et al. 2018, equation 1) between maps whose channels are last, [batch, area, channels]: at each position the
// sum over channels of weight * (a / |a| - b / |b|)^2, and of these the mean. `lanes` neighbours, a power of two up to 32, take a position. A
// block takes `span` positions of a picture, the last of its `chunks` blocks what is left. Every sum is f32 and has a fixed order. W
// numbers are read as one; W divides channels.

#define DISTANCE_THREADS 256
#define FULL 0xffffffffu
// As EPS of ../tensor/distance.rs.
#define EPS 1e-10f

__device__ inline float lanes_sum(float mine, u32 lanes) {
    for (u32 apart = lanes / 2; apart > 0; apart /= 2) {
        mine += __shfl_xor_sync(FULL, mine, apart);
    }
    return mine;
}

// The features of one position that a thread takes: packs lane, lane + lanes, ...
template <class T, int W>
struct Position {
    const Pack<T, W>*a, *b;
    u32 lane, lanes, packs;
    // The root of the sum of the squares of a; and what a and b are divided by.
    float root, by_a, by_b;

    // All threads of a warp come here together; those without a position, with no packs.
    __device__ Position(const T* all_a, const T* all_b, u64 position, u32 channels, u32 lane, u32 lanes, bool here)
        : a((const Pack<T, W>*)all_a + position * (channels / W)),
          b((const Pack<T, W>*)all_b + position * (channels / W)),
          lane(lane),
          lanes(lanes),
          packs(here ? channels / W : 0) {
        float squares_a = 0.0f, squares_b = 0.0f;
        for (u32 i = lane; i < packs; i += lanes) {
            Pack<T, W> of_a = a[i], of_b = b[i];
            for (int w = 0; w < W; w++) {
                squares_a += to_float(of_a.at[w]) * to_float(of_a.at[w]);
                squares_b += to_float(of_b.at[w]) * to_float(of_b.at[w]);
            }
        }
        root = sqrtf(lanes_sum(squares_a, lanes) + EPS * EPS);
        by_a = root + EPS;
        by_b = sqrtf(lanes_sum(squares_b, lanes) + EPS * EPS) + EPS;
    }
};

// parts [batch * chunks]: what each block adds to the mean of its picture.
template <class T, int W>
__device__ void distance_forward(const T* a, const T* b, const float* weight, float* parts, u32 channels, u32 area, u32 span, u32 chunks,
                                 u32 lanes) {
    __shared__ float shared[DISTANCE_THREADS];
    u32 first = blockIdx.x % chunks * span, rows = area - first < span ? area - first : span;
    u64 start = (u64)(blockIdx.x / chunks) * area + first;
    u32 groups = DISTANCE_THREADS / lanes, group = threadIdx.x / lanes, lane = threadIdx.x % lanes;
    float sum = 0.0f;
    for (u32 from = 0; from < rows; from += groups) {
        u32 row = from + group;
        Position<T, W> at(a, b, start + row, channels, lane, lanes, row < rows);
        for (u32 i = lane; i < at.packs; i += lanes) {
            Pack<T, W> of_a = at.a[i], of_b = at.b[i];
            for (int w = 0; w < W; w++) {
                float apart = to_float(of_a.at[w]) / at.by_a - to_float(of_b.at[w]) / at.by_b;
                sum += weight[i * W + w] * (apart * apart);
            }
        }
    }
    sum = block_sum<DISTANCE_THREADS>(sum, shared);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = sum / area;
    }
}

// The gradient of a, from that of each picture's distance, `dy` [batch].
template <class T, int W>
__device__ void distance_backward(const T* a, const T* b, const float* weight, const float* dy, T* da, u32 channels, u32 area, u32 span,
                                  u32 chunks, u32 lanes) {
    u32 picture = blockIdx.x / chunks, first = blockIdx.x % chunks * span, rows = area - first < span ? area - first : span;
    u64 start = (u64)picture * area + first;
    u32 groups = DISTANCE_THREADS / lanes, group = threadIdx.x / lanes, lane = threadIdx.x % lanes;
    float scale = 2.0f * dy[picture] / area;
    for (u32 from = 0; from < rows; from += groups) {
        u32 row = from + group;
        Position<T, W> at(a, b, start + row, channels, lane, lanes, row < rows);
        // Of a / |a|, and of |a|.
        float of_norm = 0.0f;
        for (u32 i = lane; i < at.packs; i += lanes) {
            Pack<T, W> of_a = at.a[i], of_b = at.b[i];
            for (int w = 0; w < W; w++) {
                float unit = to_float(of_a.at[w]) / at.by_a;
                of_norm -= scale * weight[i * W + w] * (unit - to_float(of_b.at[w]) / at.by_b) * unit;
            }
        }
        of_norm = lanes_sum(of_norm, lanes) / at.by_a;
        for (u32 i = lane; i < at.packs; i += lanes) {
            Pack<T, W> of_a = at.a[i], of_b = at.b[i];
            for (int w = 0; w < W; w++) {
                float value = to_float(of_a.at[w]);
                float of_unit = scale * weight[i * W + w] * (value / at.by_a - to_float(of_b.at[w]) / at.by_b);
                put(of_a.at[w], of_unit / at.by_a + of_norm * (value / at.root));
            }
            ((Pack<T, W>*)da)[(start + row) * (channels / W) + i] = of_a;
        }
    }
}

#define KERNELS(NAME, T, W)                                                                                           \
    extern "C" __global__ void __launch_bounds__(DISTANCE_THREADS)                                                    \
        distance_forward_##NAME(const T* a, const T* b, const float* weight, float* parts, u32 channels, u32 area,    \
                                u32 span, u32 chunks, u32 lanes) {                                                    \
        distance_forward<T, W>(a, b, weight, parts, channels, area, span, chunks, lanes);                             \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(DISTANCE_THREADS)                                                    \
        distance_backward_##NAME(const T* a, const T* b, const float* weight, const float* dy, T* da, u32 channels,   \
                                 u32 area, u32 span, u32 chunks, u32 lanes) {                                         \
        distance_backward<T, W>(a, b, weight, dy, da, channels, area, span, chunks, lanes);                           \
    }

KERNELS(f32, float, 1)
KERNELS(f32_wide, float, 4)
KERNELS(bf16, bf16, 1)
KERNELS(bf16_wide, bf16, 8)
