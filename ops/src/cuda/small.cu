// Operations without weights. All forward kernels take the same arguments, and so do all backward kernels: maps of height x width going in,
// `count` numbers to go through, and a slope for the one that has it.

#define FORWARD(NAME) \
    template <class T> \
    __device__ void NAME##_forward(const T* x, T* y, u32 i, u32 height, u32 width, float slope)
#define BACKWARD(NAME) \
    template <class T> \
    __device__ void NAME##_backward(const T* x, const T* dy, T* dx, u32 i, u32 height, u32 width, float slope)

// i is an input: it goes to two neighbours in each of two rows of the output.
FORWARD(upsample2) {
    Pack<T, 2> pair = {{x[i], x[i]}};
    Pack<T, 2>* out = (Pack<T, 2>*)y;
    u64 at = (u64)(i / width) * 2 * width + i % width;
    out[at] = pair;
    out[at + width] = pair;
}

BACKWARD(upsample2) {
    const Pack<T, 2>* grad = (const Pack<T, 2>*)dy;
    u64 at = (u64)(i / width) * 2 * width + i % width;
    Pack<T, 2> above = grad[at], below = grad[at + width];
    put(dx[i], (to_float(above.at[0]) + to_float(above.at[1])) + (to_float(below.at[0]) + to_float(below.at[1])));
}

// Place of the first greatest of a 2x2 window, row by row; of the last NaN where there is one.
template <class T>
__device__ inline u32 first_greatest(const T* x, u64 corner, u32 width) {
    u32 place = 0;
    float best = to_float(x[corner]);
    for (u32 p = 1; p < 4; p++) {
        float next = to_float(x[corner + (p / 2) * (u64)width + p % 2]);
        if (next > best || next != next) {
            best = next;
            place = p;
        }
    }
    return place;
}

// i is an output.
FORWARD(max_pool2) {
    u32 columns = width / 2, rows = height / 2, row = i / columns;
    u64 corner = ((u64)(row / rows) * height + 2 * (row % rows)) * width + 2 * (i % columns);
    u32 place = first_greatest(x, corner, width);
    y[i] = x[corner + (place / 2) * (u64)width + place % 2];
}

// i is an input.
BACKWARD(max_pool2) {
    u32 columns = width / 2, rows = height / 2;
    u32 column = i % width, line = i / width, row = line % height, plane = line / height;
    put(dx[i], 0.0f);
    if (row / 2 < rows && column / 2 < columns) {
        u64 corner = ((u64)plane * height + row / 2 * 2) * width + column / 2 * 2;
        if (first_greatest(x, corner, width) == row % 2 * 2 + column % 2) {
            dx[i] = dy[((u64)plane * rows + row / 2) * columns + column / 2];
        }
    }
}

// min(max(x, 0), 6), NaN kept; the gradient is 1 strictly between.
FORWARD(relu6) {
    float v = to_float(x[i]);
    put(y[i], v < 0.0f ? 0.0f : v > 6.0f ? 6.0f : v);
}

BACKWARD(relu6) {
    float v = to_float(x[i]);
    put(dx[i], v > 0.0f && v < 6.0f ? to_float(dy[i]) : 0.0f);
}

FORWARD(leaky_relu) {
    float v = to_float(x[i]);
    put(y[i], v > 0.0f ? v : slope * v);
}

BACKWARD(leaky_relu) {
    float g = to_float(dy[i]);
    put(dx[i], to_float(x[i]) > 0.0f ? g : slope * g);
}

#define KERNELS(NAME, SUFFIX, T)                                                                           \
    extern "C" __global__ void NAME##_forward_##SUFFIX(const T* x, T* y, u32 count, u32 height, u32 width, \
                                                       float slope) {                                      \
        u64 step = (u64)gridDim.x * blockDim.x;                                                            \
        for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {                   \
            NAME##_forward(x, y, (u32)i, height, width, slope);                                            \
        }                                                                                                  \
    }                                                                                                      \
    extern "C" __global__ void NAME##_backward_##SUFFIX(const T* x, const T* dy, T* dx, u32 count,         \
                                                        u32 height, u32 width, float slope) {              \
        u64 step = (u64)gridDim.x * blockDim.x;                                                            \
        for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {                   \
            NAME##_backward(x, dy, dx, (u32)i, height, width, slope);                                      \
        }                                                                                                  \
    }

KERNELS(upsample2, f32, float)
KERNELS(upsample2, bf16, bf16)
KERNELS(max_pool2, f32, float)
KERNELS(max_pool2, bf16, bf16)
KERNELS(relu6, f32, float)
KERNELS(relu6, bf16, bf16)
KERNELS(leaky_relu, f32, float)
KERNELS(leaky_relu, bf16, bf16)
