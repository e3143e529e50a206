// What all kernels share. Compiled at run time and without headers, so bf16 is made here of its bits.

typedef unsigned int u32;
typedef unsigned long long u64;

struct bf16 {
    unsigned short bits;
};

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(bf16 value) { return __uint_as_float((u32)value.bits << 16); }

__device__ inline void put(float& to, float value) { to = value; }
// Rounds to nearest, ties to even; NaN stays NaN.
__device__ inline void put(bf16& to, float value) {
    u32 bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        to.bits = (unsigned short)((bits >> 16) | 0x40u);
    } else {
        to.bits = (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
}

// W neighbours that are read and written as one.
template <class T, int W>
struct alignas(sizeof(T) * W) Pack {
    T at[W];
};

// Adds the numbers that the threads of a block hold, in an order that depends on nothing but their count (a power of two).
template <int THREADS>
__device__ inline float block_sum(float mine, float* shared) {
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            shared[threadIdx.x] += shared[threadIdx.x + half];
        }
        __syncthreads();
    }
    float sum = shared[0];
    __syncthreads();
    return sum;
}

// How a block of THREADS goes through rows of `packs` packs: threads that are neighbours take neighbouring packs, `width` of them at a time,
// and each lane of `width` threads a row of its own. Threads of lanes from `lanes` on have nothing to do.
template <int THREADS>
struct Lanes {
    u32 width, lanes, lane, slot;
    __device__ Lanes(u32 packs) {
        width = packs < THREADS ? packs : THREADS;
        lanes = THREADS / width;
        lane = threadIdx.x / width;
        slot = threadIdx.x % width;
    }
};

// out[slot * W + w] = what the threads of this slot hold in mine[w], added lane by lane; of `here` slots. `shared` has THREADS * W places.
template <int THREADS, int W>
__device__ inline void add_lanes(const Lanes<THREADS>& at, u32 here, const float* mine, float* shared, float* out) {
    for (int w = 0; w < W; w++) {
        shared[w * THREADS + threadIdx.x] = mine[w];
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < here * W; i += THREADS) {
        u32 w = i / here, slot = i % here;
        float sum = 0.0f;
        for (u32 lane = 0; lane < at.lanes; lane++) {
            sum += shared[w * THREADS + lane * at.width + slot];
        }
        out[slot * W + w] = sum;
    }
    __syncthreads();
}

// out[k][j] = sum over ascending i, from k * each on and `each` of them, of parts[i][j], parts [rows][columns]. A thread a column,
// k = blockIdx.y.
extern "C" __global__ void fold(const float* parts, float* out, u32 rows, u32 each, u32 columns) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * each;
    if (column >= columns) {
        return;
    }
    u32 end = rows - first < each ? rows : first + each;
    float sum = 0.0f;
    for (u32 row = first; row < end; row++) {
        sum += parts[(u64)row * columns + column];
    }
    out[(u64)blockIdx.y * columns + column] = sum;
}
