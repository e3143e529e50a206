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

// out[j] = sum over ascending i of parts[i][j], parts [rows][columns]. A thread a column.
extern "C" __global__ void fold(const float* parts, float* out, u32 rows, u32 columns) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) {
        return;
    }
    float sum = 0.0f;
    for (u32 row = 0; row < rows; row++) {
        sum += parts[(u64)row * columns + column];
    }
    out[column] = sum;
}
