// The nearest table entry of each query, exact: the distance is the f32 sum over ascending d of (query[d] - entry[d])^2, each step
// one fused multiply-add, from 0, and of equal distances the lowest id wins. Equal to the bit to the definition on the CPU.
// table [n, dim], queries [m, dim], all finite. Distances are at least 0, so their bits order as they do.
//
// The grid is query blocks x parts of the table; each block leaves its best in best [parts, m] as distance bits above the id, of
// which `nearest_join` takes the least.

#define THREADS 128
#define TILE 256
#define NO_ENTRY 0xffffffffffffffffull

__device__ inline float step(float sum, float query, float entry) {
    float apart = __fsub_rn(query, entry);
    return __fmaf_rn(apart, apart, sum);
}

__device__ inline u64 packed(float distance, u32 id) { return ((u64)__float_as_uint(distance) << 32) | id; }

// EACH queries a thread, in registers; `part` is a multiple of TILE.
template <int DIM, int EACH>
__device__ void nearest(const float* table, const float* queries, u64* best, u32 n, u32 m, u32 part) {
    __shared__ float4 tile[TILE * DIM / 4];
    u32 first_query = blockIdx.x * (THREADS * EACH) + threadIdx.x;
    float query[EACH][DIM], least[EACH];
    u32 id[EACH];
    for (int q = 0; q < EACH; q++) {
        u32 at = first_query + q * THREADS;
        // A query past the end is served like the last one, and not written.
        const float* from = queries + (u64)(at < m ? at : m - 1) * DIM;
        for (int d = 0; d < DIM; d++) {
            query[q][d] = from[d];
        }
        least[q] = __uint_as_float(0x7f800000u);
        id[q] = 0xffffffffu;
    }
    u32 begin = blockIdx.y * part;
    u32 end = n - begin < part ? n : begin + part;
    for (u32 start = begin; start < end; start += TILE) {
        u32 count = end - start < TILE ? end - start : TILE;
        const float4* from = (const float4*)(table + (u64)start * DIM);
        for (u32 i = threadIdx.x; i < count * (DIM / 4); i += THREADS) {
            tile[i] = from[i];
        }
        __syncthreads();
        for (u32 e = 0; e < count; e++) {
            float4 entry[DIM / 4];
            for (int d = 0; d < DIM / 4; d++) {
                entry[d] = tile[e * (DIM / 4) + d];
            }
            for (int q = 0; q < EACH; q++) {
                float sum = 0.0f;
                for (int d = 0; d < DIM / 4; d++) {
                    sum = step(sum, query[q][4 * d], entry[d].x);
                    sum = step(sum, query[q][4 * d + 1], entry[d].y);
                    sum = step(sum, query[q][4 * d + 2], entry[d].z);
                    sum = step(sum, query[q][4 * d + 3], entry[d].w);
                }
                if (sum < least[q]) {
                    least[q] = sum;
                    id[q] = start + e;
                }
            }
        }
        __syncthreads();
    }
    for (int q = 0; q < EACH; q++) {
        u32 at = first_query + q * THREADS;
        if (at < m) {
            // Where every distance overflowed, the part's first entry is the answer.
            best[(u64)blockIdx.y * m + at] = packed(least[q], id[q] == 0xffffffffu ? begin : id[q]);
        }
    }
}

#define KERNEL(DIM, EACH)                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                    \
        nearest_##DIM(const float* table, const float* queries, u64* best, u32 n, u32 m, u32 part) {         \
        nearest<DIM, EACH>(table, queries, best, n, m, part);                                                \
    }

KERNEL(4, 8)
KERNEL(8, 4)
KERNEL(16, 2)

// Any dim. A thread holds a query's sums to GROUP entries and goes through d in steps of SLICE, which are staged in shared memory;
// `part` is a multiple of GROUP.
#define GROUP 32
#define SLICE 32

extern "C" __global__ void __launch_bounds__(THREADS)
    nearest_any(const float* table, const float* queries, u64* best, u32 n, u32 m, u32 part, u32 dim) {
    // A column or four more than needed, so that the threads that fill a column seldom meet in one bank.
    __shared__ float query[SLICE][THREADS + 1];
    __shared__ float4 entry[SLICE][GROUP / 4 + 1];
    u32 block = blockIdx.x * THREADS, at = block + threadIdx.x;
    u32 begin = blockIdx.y * part;
    u32 end = n - begin < part ? n : begin + part;
    float least = __uint_as_float(0x7f800000u);
    u32 id = 0xffffffffu;
    for (u32 start = begin; start < end; start += GROUP) {
        float sum[GROUP];
        for (int e = 0; e < GROUP; e++) {
            sum[e] = 0.0f;
        }
        for (u32 from = 0; from < dim; from += SLICE) {
            // Neighbouring threads read neighbouring d.
            for (u32 i = threadIdx.x; i < SLICE * THREADS; i += THREADS) {
                u32 d = i % SLICE, q = i / SLICE;
                bool inside = from + d < dim && block + q < m;
                query[d][q] = inside ? queries[(u64)(block + q) * dim + from + d] : 0.0f;
            }
            for (u32 i = threadIdx.x; i < SLICE * GROUP; i += THREADS) {
                u32 d = i % SLICE, e = i / SLICE;
                bool inside = from + d < dim && start + e < end;
                ((float*)entry[d])[e] = inside ? table[(u64)(start + e) * dim + from + d] : 0.0f;
            }
            __syncthreads();
            // Past dim both are 0, and a step from 0 to 0 leaves a sum as it is.
            for (int d = 0; d < SLICE; d++) {
                float mine = query[d][threadIdx.x];
                for (int e = 0; e < GROUP; e += 4) {
                    float4 four = entry[d][e / 4];
                    sum[e] = step(sum[e], mine, four.x);
                    sum[e + 1] = step(sum[e + 1], mine, four.y);
                    sum[e + 2] = step(sum[e + 2], mine, four.z);
                    sum[e + 3] = step(sum[e + 3], mine, four.w);
                }
            }
            __syncthreads();
        }
        for (int e = 0; e < GROUP; e++) {
            if (start + e < end && sum[e] < least) {
                least = sum[e];
                id = start + e;
            }
        }
    }
    if (at < m) {
        best[(u64)blockIdx.y * m + at] = packed(least, id == 0xffffffffu ? begin : id);
    }
}

// The least over the parts: ids [m], distances [m].
extern "C" __global__ void nearest_join(const u64* best, u32* ids, float* distances, u32 m, u32 parts) {
    u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= m) {
        return;
    }
    u64 least = NO_ENTRY;
    for (u32 part = 0; part < parts; part++) {
        u64 next = best[(u64)part * m + at];
        least = next < least ? next : least;
    }
    ids[at] = (u32)least;
    distances[at] = __uint_as_float((u32)(least >> 32));
}

// Lowers first[0] to the index of the first value that is not finite.
extern "C" __global__ void first_not_finite(const float* values, u64 count, u64* first) {
    u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
        if ((__float_as_uint(values[i]) & 0x7f800000u) == 0x7f800000u) {
            atomicMin(first, i);
            return;
        }
    }
}
