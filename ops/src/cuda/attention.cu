// Attention without the matrix of weights in memory (Dao et al. 2022, arXiv 2205.14135; Dao 2023, arXiv 2307.08691): for each head
// out = softmax(scale q k') v, bf16 with f32 sums. Backward the weights are computed again from the logarithms of their sums, once for the
// gradient of q and once for those of k and v: more products than with atomic additions, but every sum has a fixed order.
//
// DIM, defined before this, is the least multiple of 16 that is known here and holds the numbers of a head, `dim`, a multiple of 8.
// q is [batch, heads, queries, dim] and k and v [batch, heads, keys, dim], at given strides, multiples of 8; out and all gradients are
// [batch, tokens, heads, dim]. Where `causal`, the last query sees all keys, the one before it one less, and so on.
// The grid is batch x heads by blocks of ROWS rows, 16 a warp; they meet TILE rows of the other side at a time, in shared memory.

#define WARPS 4
#define THREADS (32 * WARPS)
#define ROWS (16 * WARPS)
#define TILE (DIM <= 64 ? 64 : 32)
#define INFINITE __uint_as_float(0x7f800000u)

struct Strides {
    u64 batch, head, row;
};

struct Sizes {
    u32 heads, queries, keys, dim, causal;
    // Of what is raised to a power of e, and of 2.
    float scale, scale2;
};

// Eight numbers more than needed, so that threads that read a column meet in no bank.
struct alignas(16) Row {
    bf16 at[DIM + 8];
};
// Of 16 rows, DIM numbers each: what a warp multiplies.
typedef u32 Fragment[DIM / 16][4];

__device__ inline u32 lane() { return threadIdx.x % 32; }

// The first of a thread's two rows in its block, and of its two columns of each 8.
__device__ inline u32 my_row() { return threadIdx.x / 32 * 16 + lane() / 4; }
__device__ inline u32 my_column() { return 2 * (lane() % 4); }

__device__ inline const bf16* head_of(const bf16* x, Strides at, Sizes sizes) {
    return x + blockIdx.x / sizes.heads * at.batch + blockIdx.x % sizes.heads * at.head;
}

// Where `rows` rows of [batch, rows, heads, dim] have this head's first.
__device__ inline u64 packed_head(u32 rows, Sizes sizes) {
    u64 batch = blockIdx.x / sizes.heads, head = blockIdx.x % sizes.heads;
    return (batch * rows * sizes.heads + head) * sizes.dim;
}

// How many keys a query sees. Those past the end see what the last one sees.
__device__ inline u32 seen(u32 query, Sizes sizes) {
    return sizes.causal && query < sizes.queries ? query + 1 + sizes.keys - sizes.queries : sizes.keys;
}

// Puts rows from `first` on, `count` in all, into shared memory; 0 past the end of rows and columns.
__device__ inline void stage(Row* tile, const bf16* x, u64 step, u32 first, u32 count, u32 dim) {
    for (u32 i = threadIdx.x; i < TILE * (DIM / 8); i += THREADS) {
        u32 row = i / (DIM / 8), column = i % (DIM / 8) * 8;
        Pack<bf16, 8> pack = {};
        if (first + row < count && column < dim) {
            pack = *(const Pack<bf16, 8>*)(x + (first + row) * step + column);
        }
        *(Pack<bf16, 8>*)(tile[row].at + column) = pack;
    }
}

// A warp's 16 rows of a block's, as factors.
__device__ inline void take(Fragment a, const bf16* x, u64 step, u32 count, u32 dim) {
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 row = blockIdx.y * ROWS + my_row() + i % 2 * 8, column = k * 16 + my_column() + i / 2 * 8;
            a[k][i] = row < count && column < dim ? *(const u32*)(x + row * step + column) : 0;
        }
    }
}

// products [16][TILE] = a tile'
__device__ inline void by_rows(float (*products)[4], const Fragment a, const Row* tile) {
#pragma unroll
    for (int n = 0; n < TILE / 8; n++) {
        for (int i = 0; i < 4; i++) {
            products[n][i] = 0.0f;
        }
        const bf16* row = tile[n * 8 + lane() / 4].at + my_column();
#pragma unroll
        for (int k = 0; k < DIM / 16; k++) {
            multiply(products[n], a[k], *(const u32*)(row + k * 16), *(const u32*)(row + k * 16 + 8));
        }
    }
}

// sums [16][DIM] += weights [16][TILE] tile: results of a product are factors of the next as they lie, but for their rounding.
__device__ inline void by_columns(float (*sums)[4], const float (*weights)[4], const Row* tile) {
#pragma unroll
    for (int k = 0; k < TILE / 16; k++) {
        const float *left = weights[2 * k], *right = weights[2 * k + 1];
        u32 a[4] = {pair(left[0], left[1]), pair(left[2], left[3]), pair(right[0], right[1]), pair(right[2], right[3])};
#pragma unroll
        for (int n = 0; n < DIM / 16; n++) {
            u32 b[4];
            turned(b, tile[k * 16 + lane() % 16].at + n * 16 + lane() / 16 * 8);
            multiply(sums[2 * n], a, b[0], b[1]);
            multiply(sums[2 * n + 1], a, b[2], b[3]);
        }
    }
}

__device__ inline void clear(float (*sums)[4]) {
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        for (int i = 0; i < 4; i++) {
            sums[n][i] = 0.0f;
        }
    }
}

// Writes a warp's rows, times a factor for each of the thread's two.
__device__ inline void give(bf16* x, const float (*sums)[4], float upper, float lower, u32 count, Sizes sizes) {
    x += packed_head(count, sizes);
    u64 step = (u64)sizes.heads * sizes.dim;
    u32 row = blockIdx.y * ROWS + my_row();
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        u32 column = n * 8 + my_column();
        if (column < sizes.dim && row < count) {
            *(u32*)(x + row * step + column) = pair(sums[n][0] * upper, sums[n][1] * upper);
        }
        if (column < sizes.dim && row + 8 < count) {
            *(u32*)(x + (row + 8) * step + column) = pair(sums[n][2] * lower, sums[n][3] * lower);
        }
    }
}

// Also writes logs [batch, heads, queries]: the logarithm to base 2 of the sum of what each query's weights are shares of.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* logs, Strides q_at, Strides k_at, Strides v_at,
                      Sizes sizes) {
    __shared__ Row k_tile[TILE], v_tile[TILE];
    k = head_of(k, k_at, sizes), v = head_of(v, v_at, sizes);
    u32 block = blockIdx.y * ROWS, row = block + my_row();
    Fragment a;
    take(a, head_of(q, q_at, sizes), q_at.row, sizes.queries, sizes.dim);
    float sums[DIM / 8][4], greatest[2] = {-INFINITE, -INFINITE}, total[2] = {0.0f, 0.0f};
    clear(sums);
    u32 seen_by[2] = {seen(row, sizes), seen(row + 8, sizes)}, most = seen(block + ROWS - 1, sizes);
    for (u32 start = 0; start < most; start += TILE) {
        stage(k_tile, k, k_at.row, start, sizes.keys, sizes.dim);
        stage(v_tile, v, v_at.row, start, sizes.keys, sizes.dim);
        __syncthreads();
        float weights[TILE / 8][4], next[2] = {greatest[0], greatest[1]};
        by_rows(weights, a, k_tile);
#pragma unroll
        for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                u32 key = start + n * 8 + my_column() + i % 2;
                weights[n][i] = key < seen_by[i / 2] ? weights[n][i] * sizes.scale2 : -INFINITE;
                next[i / 2] = fmaxf(next[i / 2], weights[n][i]);
            }
        }
        // Every query sees the first key, so that the greatest is finite from the first tile on.
        float less[2];
        for (int r = 0; r < 2; r++) {
            next[r] = row_greatest(next[r]);
            less[r] = exp2f(greatest[r] - next[r]);
            greatest[r] = next[r];
            total[r] *= less[r];
        }
#pragma unroll
        for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                weights[n][i] = exp2f(weights[n][i] - greatest[i / 2]);
                total[i / 2] += weights[n][i];
            }
        }
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            for (int i = 0; i < 4; i++) {
                sums[n][i] *= less[i / 2];
            }
        }
        by_columns(sums, weights, v_tile);
        __syncthreads();
    }
    for (int r = 0; r < 2; r++) {
        total[r] = row_sum(total[r]);
        if (lane() % 4 == 0 && row + 8 * r < sizes.queries) {
            logs[(u64)blockIdx.x * sizes.queries + row + 8 * r] = greatest[r] + log2f(total[r]);
        }
    }
    give(out, sums, 1.0f / total[0], 1.0f / total[1], sizes.queries, sizes);
}

// dots [batch, heads, queries]: the products of each query's output and its gradient. A warp a query: x is batch x heads, y blocks of
// WARPS queries.
extern "C" __global__ void __launch_bounds__(THREADS) attention_dots(const bf16* out, const bf16* dout, float* dots, Sizes sizes) {
    u32 query = blockIdx.y * WARPS + threadIdx.x / 32;
    if (query >= sizes.queries) {
        return;
    }
    u64 from = packed_head(sizes.queries, sizes) + (u64)query * sizes.heads * sizes.dim;
    float sum = 0.0f;
    for (u32 i = lane(); i < sizes.dim; i += 32) {
        sum += to_float(out[from + i]) * to_float(dout[from + i]);
    }
    for (int apart = 16; apart > 0; apart /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, apart);
    }
    if (lane() == 0) {
        dots[(u64)blockIdx.x * sizes.queries + query] = sum;
    }
}

// With w the weights: dw = dout v', dq = scale (w (dw - dots)) k.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_queries(const bf16* q, const bf16* k, const bf16* v, const bf16* dout, const float* logs, const float* dots, bf16* dq,
                      Strides q_at, Strides k_at, Strides v_at, Sizes sizes) {
    __shared__ Row k_tile[TILE], v_tile[TILE];
    k = head_of(k, k_at, sizes), v = head_of(v, v_at, sizes);
    u32 block = blockIdx.y * ROWS, row = block + my_row();
    Fragment a, grad;
    take(a, head_of(q, q_at, sizes), q_at.row, sizes.queries, sizes.dim);
    take(grad, dout + packed_head(sizes.queries, sizes), (u64)sizes.heads * sizes.dim, sizes.queries, sizes.dim);
    float sums[DIM / 8][4], log[2], dot[2];
    clear(sums);
    for (int r = 0; r < 2; r++) {
        u64 at = (u64)blockIdx.x * sizes.queries + row + 8 * r;
        bool inside = row + 8 * r < sizes.queries;
        log[r] = inside ? logs[at] : 0.0f, dot[r] = inside ? dots[at] : 0.0f;
    }
    u32 seen_by[2] = {seen(row, sizes), seen(row + 8, sizes)}, most = seen(block + ROWS - 1, sizes);
    for (u32 start = 0; start < most; start += TILE) {
        stage(k_tile, k, k_at.row, start, sizes.keys, sizes.dim);
        stage(v_tile, v, v_at.row, start, sizes.keys, sizes.dim);
        __syncthreads();
        float weights[TILE / 8][4], dweights[TILE / 8][4];
        by_rows(weights, a, k_tile);
        by_rows(dweights, grad, v_tile);
#pragma unroll
        for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                u32 key = start + n * 8 + my_column() + i % 2;
                float weight = key < seen_by[i / 2] ? exp2f(weights[n][i] * sizes.scale2 - log[i / 2]) : 0.0f;
                weights[n][i] = weight * (dweights[n][i] - dot[i / 2]);
            }
        }
        by_columns(sums, weights, k_tile);
        __syncthreads();
    }
    give(dq, sums, sizes.scale, sizes.scale, sizes.queries, sizes);
}

// dv = w' dout, dk = scale (w (dw - dots))' q; here rows are keys, and columns queries.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_keys(const bf16* q, const bf16* k, const bf16* v, const bf16* dout, const float* logs, const float* dots, bf16* dk, bf16* dv,
                   Strides q_at, Strides k_at, Strides v_at, Sizes sizes) {
    __shared__ Row q_tile[TILE], grad_tile[TILE];
    __shared__ float log[TILE], dot[TILE];
    q = head_of(q, q_at, sizes), dout += packed_head(sizes.queries, sizes);
    u32 block = blockIdx.y * ROWS, row = block + my_row();
    Fragment a, values;
    take(a, head_of(k, k_at, sizes), k_at.row, sizes.keys, sizes.dim);
    take(values, head_of(v, v_at, sizes), v_at.row, sizes.keys, sizes.dim);
    float dk_sums[DIM / 8][4], dv_sums[DIM / 8][4];
    clear(dk_sums);
    clear(dv_sums);
    // The first query that sees the block's first key.
    u32 unseen = sizes.keys - sizes.queries;
    u32 first = sizes.causal && block > unseen ? (block - unseen) / TILE * TILE : 0;
    for (u32 start = first; start < sizes.queries; start += TILE) {
        stage(q_tile, q, q_at.row, start, sizes.queries, sizes.dim);
        stage(grad_tile, dout, (u64)sizes.heads * sizes.dim, start, sizes.queries, sizes.dim);
        for (u32 i = threadIdx.x; i < TILE; i += THREADS) {
            u64 at = (u64)blockIdx.x * sizes.queries + start + i;
            bool inside = start + i < sizes.queries;
            // Past the end a weight is 2 to the power of minus infinity.
            log[i] = inside ? logs[at] : INFINITE, dot[i] = inside ? dots[at] : 0.0f;
        }
        __syncthreads();
        float weights[TILE / 8][4], dweights[TILE / 8][4];
        by_rows(weights, a, q_tile);
        by_rows(dweights, values, grad_tile);
#pragma unroll
        for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                u32 column = n * 8 + my_column() + i % 2, key = row + i / 2 * 8;
                bool sees = key < seen(start + column, sizes);
                weights[n][i] = sees ? exp2f(weights[n][i] * sizes.scale2 - log[column]) : 0.0f;
                dweights[n][i] = weights[n][i] * (dweights[n][i] - dot[column]);
            }
        }
        by_columns(dv_sums, weights, grad_tile);
        by_columns(dk_sums, dweights, q_tile);
        __syncthreads();
    }
    give(dk, dk_sums, sizes.scale, sizes.scale, sizes.keys, sizes);
    give(dv, dv_sums, 1.0f, 1.0f, sizes.keys, sizes);
}
