// small.cu and what conv.cu does itself against their definitions in double precision.
#include "gpu.h"

#include "../common.cuh"
#include "../small.cu"
#undef KERNELS
#include "../conv.cu"
#include "check.h"

#include <algorithm>

typedef std::vector<float> Floats;
typedef std::vector<double> Doubles;

// In ../small.rs and ../conv.rs.
constexpr u32 THREADS = 256;

// What rounding to T loses at most.
template <class T>
constexpr double LIMIT = sizeof(T) == 2 ? 0.004 : 1e-7;

// Some of which are alike.
template <class T>
static std::vector<T> whole_numbers(u32 count, float reach, u32 seed) {
    std::vector<T> out = numbers<T>(count, reach, seed);
    for (T& number : out) {
        put(number, std::round(to_float(number)));
    }
    return out;
}

// Room that holds what is no result.
template <class T>
static std::vector<T> room(u32 count) {
    std::vector<T> out(count);
    for (T& number : out) {
        put(number, NAN);
    }
    return out;
}

// `most` is 2^14 in ../small.rs; fewer blocks show that each thread goes on by steps of the grid.
static dim3 blocks(u32 count, u32 most) { return {std::min((count + THREADS - 1) / THREADS, most)}; }

template <class T, class Forward, class Backward>
static void upsample2(Forward forward, Backward backward, u32 planes, u32 height, u32 width, u32 most = 1 << 14) {
    std::printf("upsample2 of %u x %u x %u, %u bytes each\n", planes, height, width, (u32)sizeof(T));
    u32 count = planes * height * width;
    std::vector<T> x = numbers<T>(count, 3.0f, 1), dy = numbers<T>(4 * count, 3.0f, 2), y = room<T>(4 * count), dx = room<T>(count);
    gpu::launch(blocks(count, most), THREADS, forward, x.data(), y.data(), count, height, width, 0.0f);
    gpu::launch(blocks(count, most), THREADS, backward, x.data(), dy.data(), dx.data(), count, height, width, 0.0f);
    Doubles y_right, dx_right(count);
    for (u32 i = 0; i < 4 * count; i++) {
        u32 plane = i / (4 * height * width), row = i / (2 * width) % (2 * height), column = i % (2 * width);
        u32 from = (plane * height + row / 2) * width + column / 2;
        y_right.push_back(to_float(x[from]));
        dx_right[from] += to_float(dy[i]);
    }
    expect("y", y_right, floats(y), 0.0);
    expect("dx", dx_right, floats(dx), LIMIT<T>);
}

template <class T, class Forward, class Backward>
static void max_pool2(Forward forward, Backward backward, u32 planes, u32 height, u32 width, u32 most = 1 << 14) {
    std::printf("max_pool2 of %u x %u x %u, %u bytes each\n", planes, height, width, (u32)sizeof(T));
    u32 count = planes * height * width, rows = height / 2, columns = width / 2, out = planes * rows * columns;
    std::vector<T> x = whole_numbers<T>(count, 3.0f, 3), dy = numbers<T>(out, 3.0f, 4), y = room<T>(out), dx = room<T>(count);
    gpu::launch(blocks(out, most), THREADS, forward, x.data(), y.data(), out, height, width, 0.0f);
    gpu::launch(blocks(count, most), THREADS, backward, x.data(), dy.data(), dx.data(), count, height, width, 0.0f);
    Doubles y_right, dx_right(count);
    for (u32 i = 0; i < out; i++) {
        u32 plane = i / (rows * columns), row = i / columns % rows, column = i % columns;
        u32 corner = (plane * height + 2 * row) * width + 2 * column, first = corner;
        for (u32 at : {corner + 1, corner + width, corner + width + 1}) {
            first = to_float(x[at]) > to_float(x[first]) ? at : first;
        }
        y_right.push_back(to_float(x[first]));
        dx_right[first] = to_float(dy[i]);
    }
    expect("y", y_right, floats(y), 0.0);
    expect("dx", dx_right, floats(dx), 0.0);
}

struct Activation {
    const char* name;
    float slope;
    double (*of)(double);
    double (*gradient)(double);
};

constexpr float SLOPE = 0.2f;

static const Activation RELU6 = {"relu6", 0.0f, [](double x) { return std::fmin(std::fmax(x, 0.0), 6.0); },
                                 [](double x) { return x > 0.0 && x < 6.0 ? 1.0 : 0.0; }};
static const Activation LEAKY_RELU = {"leaky_relu", SLOPE, [](double x) { return x > 0.0 ? x : SLOPE * x; },
                                      [](double x) { return x > 0.0 ? 1.0 : SLOPE; }};

template <class T, class Forward, class Backward>
static void activation(const Activation& right, Forward forward, Backward backward, u32 most = 1 << 14) {
    u32 count = 3000;
    std::printf("%s of %u, %u bytes each\n", right.name, count, (u32)sizeof(T));
    std::vector<T> x = numbers<T>(count, 9.0f, 5), dy = numbers<T>(count, 3.0f, 6), y = room<T>(count), dx = room<T>(count);
    gpu::launch(blocks(count, most), THREADS, forward, x.data(), y.data(), count, 1u, count, right.slope);
    gpu::launch(blocks(count, most), THREADS, backward, x.data(), dy.data(), dx.data(), count, 1u, count, right.slope);
    Doubles y_right, dx_right;
    for (u32 i = 0; i < count; i++) {
        y_right.push_back(right.of(to_float(x[i])));
        dx_right.push_back(to_float(dy[i]) * right.gradient(to_float(x[i])));
    }
    expect("y", y_right, floats(y), LIMIT<T>);
    expect("dx", dx_right, floats(dx), LIMIT<T>);
}

// NaN is kept, and takes the gradient of its window, the last of several; at the edges of relu6 there is none.
template <class T, class Forward, class Backward>
static void special(Forward relu6, Backward relu6_backward, Forward pool, Backward pool_backward) {
    std::printf("NaN and edges, %u bytes each\n", (u32)sizeof(T));
    std::vector<T> x(4), y = room<T>(4), dx = room<T>(4), dy(4);
    Floats numbers = {0.0f, 6.0f, NAN, 5.0f};
    for (u32 i = 0; i < 4; i++) {
        put(x[i], numbers[i]);
        put(dy[i], 1.0f);
    }
    gpu::launch({1}, THREADS, relu6, x.data(), y.data(), 4u, 1u, 4u, 0.0f);
    gpu::launch({1}, THREADS, relu6_backward, x.data(), dy.data(), dx.data(), 4u, 1u, 4u, 0.0f);
    bool kept = std::isnan(to_float(y[2]));
    put(y[2], 0.0f);
    expect("y", {0.0, 6.0, 0.0, 5.0}, floats(y), 0.0);
    expect("dx", {0.0, 0.0, 0.0, 1.0}, floats(dx), 0.0);

    put(x[1], NAN);
    gpu::launch({1}, THREADS, pool, x.data(), y.data(), 1u, 2u, 2u, 0.0f);
    gpu::launch({1}, THREADS, pool_backward, x.data(), dy.data(), dx.data(), 4u, 2u, 2u, 0.0f);
    expect("dx", {0.0, 0.0, 1.0, 0.0}, floats(dx), 0.0);
    if (!kept || !std::isnan(to_float(y[0]))) {
        std::fprintf(stderr, "a NaN is lost\n");
        std::exit(1);
    }
}

// `width` is how many numbers a pack of the kernels has.
template <class T, class Add, class Sums>
static void bias(Add add, Sums plane_sums, u32 width, u32 batch, u32 channels, u32 area, u32 most = 1 << 12) {
    std::printf("bias of [%u, %u, %u], %u bytes each, packs of %u\n", batch, channels, area, (u32)sizeof(T), width);
    u32 planes = batch * channels, count = planes * area;
    std::vector<T> before = numbers<T>(count, 3.0f, 8), y = before;
    Floats of_channel = numbers<float>(channels, 1.0f, 9), sums(planes, NAN), gradient(channels, NAN);
    u64 packs = count / width;
    gpu::launch(blocks(packs, most), THREADS, add, y.data(), of_channel.data(), packs, channels, area);
    gpu::launch({planes}, SUM_THREADS, plane_sums, before.data(), sums.data(), area);
    gpu::launch({(channels + 63) / 64}, 64, fold, sums.data(), gradient.data(), batch, channels);
    Doubles y_right, sums_right(planes), gradient_right(channels);
    for (u32 i = 0; i < count; i++) {
        u32 plane = i / area, channel = plane % channels;
        double number = to_float(before[i]);
        y_right.push_back(number + of_channel[channel]);
        sums_right[plane] += number;
        gradient_right[channel] += number;
    }
    expect("y", y_right, floats(y), LIMIT<T>);
    expect("sums", sums_right, sums, 2e-6);
    expect("gradient", gradient_right, gradient, 2e-6);
}

int main() {
    struct {
        u32 planes, height, width;
    } maps[] = {{3, 4, 6}, {2, 5, 7}, {3, 7, 4}, {1, 10, 33}, {2, 2, 2}, {2, 1, 5}, {2, 9, 1}, {5, 17, 19}};
    for (auto [planes, height, width] : maps) {
        upsample2<float>(upsample2_forward_f32, upsample2_backward_f32, planes, height, width);
        upsample2<bf16>(upsample2_forward_bf16, upsample2_backward_bf16, planes, height, width, 2);
        // ../small.rs refuses maps of which nothing is left.
        if (height > 1 && width > 1) {
            max_pool2<float>(max_pool2_forward_f32, max_pool2_backward_f32, planes, height, width, 1);
            max_pool2<bf16>(max_pool2_forward_bf16, max_pool2_backward_bf16, planes, height, width);
        }
    }
    activation<float>(RELU6, relu6_forward_f32, relu6_backward_f32);
    activation<bf16>(RELU6, relu6_forward_bf16, relu6_backward_bf16, 3);
    activation<float>(LEAKY_RELU, leaky_relu_forward_f32, leaky_relu_backward_f32, 3);
    activation<bf16>(LEAKY_RELU, leaky_relu_forward_bf16, leaky_relu_backward_bf16);
    special<float>(relu6_forward_f32, relu6_backward_f32, max_pool2_forward_f32, max_pool2_backward_f32);
    special<bf16>(relu6_forward_bf16, relu6_backward_bf16, max_pool2_forward_bf16, max_pool2_backward_bf16);

    bias<float>(bias_add_f32, plane_sums_f32, 1, 2, 5, 35);
    bias<float>(bias_add_f32, plane_sums_f32, 1, 3, 70, 1);
    bias<float>(bias_add_f32, plane_sums_f32, 1, 1, 3, 700, 2);
    bias<bf16>(bias_add_bf16, plane_sums_bf16, 1, 2, 5, 35);
    bias<bf16>(bias_add_bf16, plane_sums_bf16, 1, 1, 3, 700, 2);
    bias<float>(bias_add_f32_wide, plane_sums_f32_wide, 4, 2, 5, 24);
    bias<float>(bias_add_f32_wide, plane_sums_f32_wide, 4, 2, 3, 1032, 2);
    bias<bf16>(bias_add_bf16_wide, plane_sums_bf16_wide, 8, 2, 70, 8);
    bias<bf16>(bias_add_bf16_wide, plane_sums_bf16_wide, 8, 2, 3, 1032, 2);
}
