// The nearest centre of each feature by matrix products, exact: products of bf16 pairs find a few candidates for each feature, which are
// then measured as in nearest.cu; where rounding could hide a nearer centre, the feature is marked and searched in full.

#define THREADS 128
#define BEST 4
#define NONE 0xffffffffu
// 2^-100
#define LEAST 7.888609052e-31f

struct Candidates {
    float value[BEST];
    u32 id[BEST];
};

__device__ inline void clear(Candidates& list) {
    for (int k = 0; k < BEST; k++) {
        list.value[k] = __uint_as_float(0x7f800000u);
        list.id[k] = NONE;
    }
}

// Keeps the least, in order. A NaN is never kept.
__device__ inline void offer(Candidates& list, float value, u32 id) {
    if (!(value < list.value[BEST - 1])) {
        return;
    }
    list.value[BEST - 1] = value;
    list.id[BEST - 1] = id;
    for (int k = BEST - 1; k > 0; k--) {
        if (list.value[k] < list.value[k - 1]) {
            float v = list.value[k];
            u32 i = list.id[k];
            list.value[k] = list.value[k - 1];
            list.id[k] = list.id[k - 1];
            list.value[k - 1] = v;
            list.id[k - 1] = i;
        }
    }
}

// Each number as the sum of two bf16, high and low: split [rows, 3 dim] holds (high, high, low) of features and (high, low, high) of
// centres, so that one product over 3 dim gives high high + high low + low high. squares [rows]: the squared length. A block a row.
extern "C" __global__ void __launch_bounds__(THREADS)
    assign_split(const float* values, bf16* split, float* squares, u32 dim, u32 centres) {
    __shared__ float shared[THREADS];
    const float* row = values + (u64)blockIdx.x * dim;
    bf16* out = split + (u64)blockIdx.x * 3 * dim;
    float square = 0.0f;
    for (u32 d = threadIdx.x; d < dim; d += THREADS) {
        bf16 high, low;
        put(high, row[d]);
        put(low, row[d] - to_float(high));
        out[d] = high;
        out[dim + d] = centres ? low : high;
        out[2 * dim + d] = centres ? high : low;
        square += row[d] * row[d];
    }
    square = block_sum<THREADS>(square, shared);
    if (threadIdx.x == 0) {
        squares[blockIdx.x] = square;
    }
}

// Goes on with the candidates of each feature of a block, best [rows]: the least of centre square - 2 product over the centres
// first .. first + columns, products [rows, columns]. `fresh` says that there are no candidates yet. A block a row.
extern "C" __global__ void __launch_bounds__(THREADS)
    assign_scan(const float* products, const float* squares, Candidates* best, u32 columns, u32 first, u32 fresh) {
    __shared__ Candidates shared[THREADS];
    const float* row = products + (u64)blockIdx.x * columns;
    Candidates mine;
    clear(mine);
    for (u32 c = threadIdx.x; c < columns; c += THREADS) {
        offer(mine, squares[first + c] - 2.0f * row[c], first + c);
    }
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            for (int k = 0; k < BEST; k++) {
                offer(mine, shared[threadIdx.x + half].value[k], shared[threadIdx.x + half].id[k]);
            }
            shared[threadIdx.x] = mine;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        if (!fresh) {
            Candidates before = best[blockIdx.x];
            for (int k = 0; k < BEST; k++) {
                offer(mine, before.value[k], before.id[k]);
            }
        }
        best[blockIdx.x] = mine;
    }
}

// ids and distances of the nearest candidate, as nearest.cu measures; unsure = 1 where a centre that is no candidate could be as near.
// A value v stands for the squared distance v + square of the feature, with an error of at most `tolerance` * (square of the feature +
// greatest square of a centre). A thread a feature.
extern "C" __global__ void assign_settle(const float* features, const float* centres, const Candidates* best,
                                         const float* squares, const float* greatest, u32* ids, float* distances,
                                         u32* unsure, u32 rows, u32 dim, float tolerance) {
    u32 row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) {
        return;
    }
    const float* feature = features + (u64)row * dim;
    Candidates list = best[row];
    float least = __uint_as_float(0x7f800000u);
    u32 id = NONE;
    for (int k = 0; k < BEST; k++) {
        if (list.id[k] == NONE) {
            continue;
        }
        const float* centre = centres + (u64)list.id[k] * dim;
        float sum = 0.0f;
        for (u32 d = 0; d < dim; d++) {
            float apart = __fsub_rn(feature[d], centre[d]);
            sum = __fmaf_rn(apart, apart, sum);
        }
        if (sum < least || (sum == least && list.id[k] < id)) {
            least = sum;
            id = list.id[k];
        }
    }
    float margin = tolerance * (squares[row] + greatest[0]);
    // Also unsure where anything overflowed, or is so small that errors are no share of it.
    bool sure = least + margin < list.value[BEST - 1] + squares[row] && squares[row] + greatest[0] > LEAST;
    unsure[row] = !sure;
    ids[row] = id;
    distances[row] = least;
}

// Writes the results of the full searches to the features they were for.
extern "C" __global__ void assign_scatter(const u32* rows, const u32* from_ids, const float* from_distances, u32* ids,
                                          float* distances, u32 count) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        ids[rows[i]] = from_ids[i];
        distances[rows[i]] = from_distances[i];
    }
}
