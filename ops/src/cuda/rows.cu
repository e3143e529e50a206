// Rows of numbers, f32: what transformers are made of beside products, as ../rows.rs has it for the CPU. A warp a row, ROWS a block, but
// where rows are as long as a vocabulary. Every sum has a fixed order.

#define ROWS 8
#define THREADS (32 * ROWS)
#define FULL 0xffffffffu

__device__ inline u32 lane() { return threadIdx.x % 32; }

__device__ inline u64 my_row() { return (u64)blockIdx.x * ROWS + threadIdx.x / 32; }

__device__ inline float warp_sum(float mine) {
    for (int apart = 16; apart > 0; apart /= 2) {
        mine += __shfl_xor_sync(FULL, mine, apart);
    }
    return mine;
}

__device__ inline float warp_greatest(float mine) {
    for (int apart = 16; apart > 0; apart /= 2) {
        mine = fmaxf(mine, __shfl_xor_sync(FULL, mine, apart));
    }
    return mine;
}

// Of a row: its mean, and 1 / sqrt(variance + eps).
__device__ inline void moments(const float* x, u32 length, float eps, float& mean, float& factor) {
    float sum = 0.0f, squares = 0.0f;
    for (u32 i = lane(); i < length; i += 32) {
        sum += x[i];
    }
    mean = warp_sum(sum) / length;
    for (u32 i = lane(); i < length; i += 32) {
        squares += (x[i] - mean) * (x[i] - mean);
    }
    factor = 1.0f / sqrtf(warp_sum(squares) / length + eps);
}

extern "C" __global__ void __launch_bounds__(THREADS) standardise_forward(const float* x, float* y, u64 rows, u32 length, float eps) {
    if (my_row() >= rows) {
        return;
    }
    x += my_row() * length, y += my_row() * length;
    float mean, factor;
    moments(x, length, eps, mean, factor);
    for (u32 i = lane(); i < length; i += 32) {
        y[i] = (x[i] - mean) * factor;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    standardise_backward(const float* x, const float* dy, float* dx, u64 rows, u32 length, float eps) {
    if (my_row() >= rows) {
        return;
    }
    x += my_row() * length, dy += my_row() * length, dx += my_row() * length;
    float mean, factor, sum = 0.0f, along = 0.0f;
    moments(x, length, eps, mean, factor);
    for (u32 i = lane(); i < length; i += 32) {
        sum += dy[i];
        along += dy[i] * ((x[i] - mean) * factor);
    }
    sum = warp_sum(sum) / length;
    along = warp_sum(along) / length;
    for (u32 i = lane(); i < length; i += 32) {
        dx[i] = factor * (dy[i] - sum - (x[i] - mean) * factor * along);
    }
}

// How many columns this thread's row sees: all where `causal` is 0; else the last of each `causal` rows sees all, the one before it one
// less, and so on.
__device__ inline u32 seen(u32 length, u32 causal) { return causal ? length - (causal - 1 - (u32)(my_row() % causal)) : length; }

// softmax(scale x) of what each row sees; the rest becomes 0.
extern "C" __global__ void __launch_bounds__(THREADS)
    softmax_forward(const float* x, float* y, u64 rows, u32 length, float scale, u32 causal) {
    if (my_row() >= rows) {
        return;
    }
    x += my_row() * length, y += my_row() * length;
    u32 count = seen(length, causal);
    float greatest = -__uint_as_float(0x7f800000u), sum = 0.0f;
    for (u32 i = lane(); i < count; i += 32) {
        greatest = fmaxf(greatest, x[i]);
    }
    greatest = warp_greatest(greatest);
    for (u32 i = lane(); i < count; i += 32) {
        sum += expf(scale * (x[i] - greatest));
    }
    float share = 1.0f / warp_sum(sum);
    for (u32 i = lane(); i < length; i += 32) {
        y[i] = i < count ? expf(scale * (x[i] - greatest)) * share : 0.0f;
    }
}

// Of y, what softmax_forward gave.
extern "C" __global__ void __launch_bounds__(THREADS)
    softmax_backward(const float* y, const float* dy, float* dx, u64 rows, u32 length, float scale) {
    if (my_row() >= rows) {
        return;
    }
    y += my_row() * length, dy += my_row() * length, dx += my_row() * length;
    float shared = 0.0f;
    for (u32 i = lane(); i < length; i += 32) {
        shared += y[i] * dy[i];
    }
    shared = warp_sum(shared);
    for (u32 i = lane(); i < length; i += 32) {
        dx[i] = scale * y[i] * (dy[i] - shared);
    }
}

#define SLOPE 0.7978845608f
#define CUBE 0.044715f

// x times this is its GELU; `slope` is what its gradient is multiplied by.
__device__ inline float gelu_share(float x, u32 tanh, float& slope) {
    if (tanh) {
        float share = 0.5f + 0.5f * tanhf(SLOPE * (x + CUBE * x * x * x));
        slope = share + x * share * (1.0f - share) * 2.0f * SLOPE * (1.0f + 3.0f * CUBE * x * x);
        return share;
    }
    float share = 0.5f * erfcf(-0.7071067812f * x);
    slope = share + x * 0.3989422804f * expf(-0.5f * x * x);
    return share;
}

// A thread a number.
extern "C" __global__ void __launch_bounds__(THREADS) gelu_forward(const float* x, float* y, u64 count, u32 tanh) {
    u64 i = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (i < count) {
        float slope;
        y[i] = x[i] * gelu_share(x[i], tanh, slope);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) gelu_backward(const float* x, const float* dy, float* dx, u64 count, u32 tanh) {
    u64 i = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (i < count) {
        float slope;
        gelu_share(x[i], tanh, slope);
        dx[i] = dy[i] * slope;
    }
}

#define WIDE 512

// How much, in powers of e from the greatest, and the greatest.
struct Sum {
    float greatest, total;
};

__device__ inline Sum merge(Sum a, Sum b) {
    if (b.total == 0.0f) {
        return a;
    }
    float greatest = fmaxf(a.greatest, b.greatest);
    Sum both = {greatest, a.total * expf(a.greatest - greatest) + b.total * expf(b.greatest - greatest)};
    return both;
}

// The cross-entropy of a row's softmax with its target, of which `smoothing` is spread evenly: losses [rows]; its gradient takes the place
// of the logits. NaN where the target is no column. A block of WIDE a row.
extern "C" __global__ void __launch_bounds__(WIDE)
    cross_entropy(float* logits, const u32* targets, float* losses, u32 length, float smoothing) {
    __shared__ Sum shared[WIDE];
    __shared__ float sums[WIDE];
    float* x = logits + (u64)blockIdx.x * length;
    u32 target = targets[blockIdx.x];
    Sum mine = {-__uint_as_float(0x7f800000u), 0.0f};
    float even = 0.0f;
    for (u32 i = threadIdx.x; i < length; i += WIDE) {
        float value = x[i];
        if (value > mine.greatest) {
            mine.total *= expf(mine.greatest - value);
            mine.greatest = value;
        }
        mine.total += expf(value - mine.greatest);
        even += value;
    }
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (u32 half = WIDE / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            shared[threadIdx.x] = merge(shared[threadIdx.x], shared[threadIdx.x + half]);
        }
        __syncthreads();
    }
    even = block_sum<WIDE>(even, sums) / length;
    Sum all = shared[0];
    if (threadIdx.x == 0) {
        float log = all.greatest + logf(all.total);
        float hit = target < length ? x[target] : __uint_as_float(0x7fffffffu);
        losses[blockIdx.x] = (1.0f - smoothing) * (log - hit) + smoothing * (log - even);
    }
    // The target's logit has been read.
    __syncthreads();
    float share = 1.0f / all.total, every = smoothing / length;
    for (u32 i = threadIdx.x; i < length; i += WIDE) {
        float power = expf(x[i] - all.greatest) * share - every;
        x[i] = i == target ? power - (1.0f - smoothing) : power;
    }
}
