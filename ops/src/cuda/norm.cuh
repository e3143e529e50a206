// What normalisations share, however maps lie.

// How many numbers, their mean, and the sum of their squared deviations from it.
struct Moments {
    float count, mean, deviations;
};

// Chan, Golub and LeVeque 1979: no more is lost where the mean is far from 0 than the rounding of the mean.
__device__ inline Moments merge(Moments a, Moments b) {
    if (a.count == 0.0f) {
        return b;
    }
    if (b.count == 0.0f) {
        return a;
    }
    float count = a.count + b.count, share = b.count / count, apart = b.mean - a.mean;
    Moments both = {count, a.mean + apart * share, a.deviations + b.deviations + apart * apart * a.count * share};
    return both;
}

// Merges what the THREADS threads of a block hold, in an order that depends on nothing but their count (a power of two).
template <int THREADS>
__device__ inline Moments block_merge(Moments mine, Moments* shared) {
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            shared[threadIdx.x] = merge(shared[threadIdx.x], shared[threadIdx.x + half]);
        }
        __syncthreads();
    }
    return shared[0];
}

__device__ inline float sigmoid(float u) { return 1.0f / (1.0f + expf(-u)); }

__device__ inline float after_swish(float u, u32 swish) { return swish ? u * sigmoid(u) : u; }

// The gradient at u, given that at y.
__device__ inline float before_swish(float dy, float u, u32 swish) {
    if (!swish) {
        return dy;
    }
    float s = sigmoid(u);
    return dy * (s * (1.0f + u * (1.0f - s)));
}
