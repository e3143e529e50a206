// Operations without weights. All forward kernels take the same arguments, and so do all backward kernels: maps of height x width going in,
// `count` packs of W numbers to go through, what else an operation needs. Maps are [planes, height, width]; those of kernels called last
// are [batch, height, width, packs] of W channels.

#define FORWARD(NAME)        \
    template <class T, int W> \
    __device__ void NAME##_forward(const T* x, T* y, u32 i, u32 height, u32 width, u32 packs, float slope)
#define BACKWARD(NAME)       \
    template <class T, int W> \
    __device__ void NAME##_backward(const T* x, const T* dy, T* dx, u32 i, u32 height, u32 width, u32 packs, float slope)

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

// i is an input: it goes to four places.
FORWARD(upsample2_last) {
    Pack<T, W>* out = (Pack<T, W>*)y;
    Pack<T, W> pack = ((const Pack<T, W>*)x)[i];
    u32 position = i / packs;
    u64 at = ((u64)(position / width) * 4 * width + 2 * (position % width)) * packs + i % packs, below = at + 2 * (u64)width * packs;
    out[at] = pack;
    out[at + packs] = pack;
    out[below] = pack;
    out[below + packs] = pack;
}

BACKWARD(upsample2_last) {
    const Pack<T, W>* grad = (const Pack<T, W>*)dy;
    u32 position = i / packs;
    u64 at = ((u64)(position / width) * 4 * width + 2 * (position % width)) * packs + i % packs, below = at + 2 * (u64)width * packs;
    Pack<T, W> a = grad[at], b = grad[at + packs], c = grad[below], d = grad[below + packs], sum;
    for (int w = 0; w < W; w++) {
        put(sum.at[w], (to_float(a.at[w]) + to_float(b.at[w])) + (to_float(c.at[w]) + to_float(d.at[w])));
    }
    ((Pack<T, W>*)dx)[i] = sum;
}

// The places of `first_greatest` in W channels at once, from the first pack of a window on.
template <class T, int W>
struct Greatest {
    Pack<T, W> values;
    u32 places[W];
    __device__ Greatest(const Pack<T, W>* corner, u32 width, u32 packs) {
        values = corner[0];
        for (int w = 0; w < W; w++) {
            places[w] = 0;
        }
        for (u32 p = 1; p < 4; p++) {
            Pack<T, W> next = corner[((p / 2) * (u64)width + p % 2) * packs];
            for (int w = 0; w < W; w++) {
                float value = to_float(next.at[w]);
                if (value > to_float(values.at[w]) || value != value) {
                    values.at[w] = next.at[w];
                    places[w] = p;
                }
            }
        }
    }
};

// i is an output.
FORWARD(max_pool2_last) {
    u32 columns = width / 2, rows = height / 2, position = i / packs, row = position / columns;
    u64 corner = ((u64)(row / rows) * height + 2 * (row % rows)) * width + 2 * (position % columns);
    Greatest<T, W> greatest((const Pack<T, W>*)x + corner * packs + i % packs, width, packs);
    ((Pack<T, W>*)y)[i] = greatest.values;
}

// i is an input.
BACKWARD(max_pool2_last) {
    u32 columns = width / 2, rows = height / 2, position = i / packs;
    u32 column = position % width, line = position / width, row = line % height, picture = line / height;
    Pack<T, W> out;
    for (int w = 0; w < W; w++) {
        put(out.at[w], 0.0f);
    }
    if (row / 2 < rows && column / 2 < columns) {
        u64 corner = ((u64)picture * height + row / 2 * 2) * width + column / 2 * 2;
        Greatest<T, W> greatest((const Pack<T, W>*)x + corner * packs + i % packs, width, packs);
        u64 at = (((u64)picture * rows + row / 2) * columns + column / 2) * packs + i % packs;
        Pack<T, W> grad = ((const Pack<T, W>*)dy)[at];
        for (int w = 0; w < W; w++) {
            if (greatest.places[w] == row % 2 * 2 + column % 2) {
                out.at[w] = grad.at[w];
            }
        }
    }
    ((Pack<T, W>*)dx)[i] = out;
}

// y and dx of packs, number by number.
#define EACH(NAME, Y, DX)                                                      \
    FORWARD(NAME) {                                                            \
        Pack<T, W> pack = ((const Pack<T, W>*)x)[i];                           \
        for (int w = 0; w < W; w++) {                                          \
            float v = to_float(pack.at[w]);                                    \
            put(pack.at[w], Y);                                                \
        }                                                                      \
        ((Pack<T, W>*)y)[i] = pack;                                            \
    }                                                                          \
    BACKWARD(NAME) {                                                           \
        Pack<T, W> pack = ((const Pack<T, W>*)x)[i];                           \
        Pack<T, W> grad = ((const Pack<T, W>*)dy)[i];                          \
        for (int w = 0; w < W; w++) {                                          \
            float v = to_float(pack.at[w]), g = to_float(grad.at[w]);          \
            put(pack.at[w], DX);                                               \
        }                                                                      \
        ((Pack<T, W>*)dx)[i] = pack;                                           \
    }

// max(x, 0), NaN kept; the gradient is 1 above 0.
EACH(relu, v < 0.0f ? 0.0f : v, v > 0.0f ? g : 0.0f)

// min(max(x, 0), 6), NaN kept; the gradient is 1 strictly between.
EACH(relu6, v < 0.0f ? 0.0f : v > 6.0f ? 6.0f : v, v > 0.0f && v < 6.0f ? g : 0.0f)

EACH(leaky_relu, v > 0.0f ? v : slope * v, v > 0.0f ? g : slope * g)

#define KERNELS(NAME, SUFFIX, T, W)                                                                        \
    extern "C" __global__ void NAME##_forward_##SUFFIX(const T* x, T* y, u32 count, u32 height, u32 width, \
                                                       u32 packs, float slope) {                           \
        u64 step = (u64)gridDim.x * blockDim.x;                                                            \
        for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {                   \
            NAME##_forward<T, W>(x, y, (u32)i, height, width, packs, slope);                               \
        }                                                                                                  \
    }                                                                                                      \
    extern "C" __global__ void NAME##_backward_##SUFFIX(const T* x, const T* dy, T* dx, u32 count,         \
                                                        u32 height, u32 width, u32 packs, float slope) {   \
        u64 step = (u64)gridDim.x * blockDim.x;                                                            \
        for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {                   \
            NAME##_backward<T, W>(x, dy, dx, (u32)i, height, width, packs, slope);                         \
        }                                                                                                  \
    }

KERNELS(upsample2, f32, float, 1)
KERNELS(upsample2, bf16, bf16, 1)
KERNELS(upsample2_last, f32, float, 1)
KERNELS(upsample2_last, f32_wide, float, 4)
KERNELS(upsample2_last, bf16, bf16, 1)
KERNELS(upsample2_last, bf16_wide, bf16, 8)
KERNELS(max_pool2, f32, float, 1)
KERNELS(max_pool2, bf16, bf16, 1)
KERNELS(max_pool2_last, f32, float, 1)
KERNELS(max_pool2_last, f32_wide, float, 4)
KERNELS(max_pool2_last, bf16, bf16, 1)
KERNELS(max_pool2_last, bf16_wide, bf16, 8)
KERNELS(relu, f32, float, 1)
KERNELS(relu, f32_wide, float, 4)
KERNELS(relu, bf16, bf16, 1)
KERNELS(relu, bf16_wide, bf16, 8)
KERNELS(relu6, f32, float, 1)
KERNELS(relu6, f32_wide, float, 4)
KERNELS(relu6, bf16, bf16, 1)
KERNELS(relu6, bf16_wide, bf16, 8)
KERNELS(leaky_relu, f32, float, 1)
KERNELS(leaky_relu, f32_wide, float, 4)
KERNELS(leaky_relu, bf16, bf16, 1)
KERNELS(leaky_relu, bf16_wide, bf16, 8)
