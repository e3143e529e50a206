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

// Maps [planes, height, width, channels]: kernels that know nothing of channels are given one.
struct Maps {
    u32 planes, height, width, channels = 1;
    // Numbers that the kernels take as one.
    u32 pack = 1;

    void print(const char* what, u32 bytes) const {
        std::printf("%s of %u x %u x %u x %u, %u bytes each, packs of %u\n", what, planes, height, width, channels, bytes, pack);
    }
};

template <class T, class Forward, class Backward>
static void upsample2(Forward forward, Backward backward, Maps maps, u32 most = 1 << 14) {
    maps.print("upsample2", sizeof(T));
    auto [planes, height, width, channels, pack] = maps;
    u32 count = planes * height * width * channels;
    std::vector<T> x = numbers<T>(count, 3.0f, 1), dy = numbers<T>(4 * count, 3.0f, 2), y = room<T>(4 * count), dx = room<T>(count);
    u32 steps = count / pack, packs = channels / pack;
    gpu::launch(blocks(steps, most), THREADS, forward, x.data(), y.data(), steps, height, width, packs, 0.0f);
    gpu::launch(blocks(steps, most), THREADS, backward, x.data(), dy.data(), dx.data(), steps, height, width, packs, 0.0f);
    Doubles y_right, dx_right(count);
    for (u32 i = 0; i < 4 * count; i++) {
        u32 at = i / channels, plane = at / (4 * height * width), row = at / (2 * width) % (2 * height), column = at % (2 * width);
        u32 from = ((plane * height + row / 2) * width + column / 2) * channels + i % channels;
        y_right.push_back(to_float(x[from]));
        dx_right[from] += to_float(dy[i]);
    }
    expect("y", y_right, floats(y), 0.0);
    expect("dx", dx_right, floats(dx), LIMIT<T>);
}

template <class T, class Forward, class Backward>
static void max_pool2(Forward forward, Backward backward, Maps maps, u32 most = 1 << 14) {
    maps.print("max_pool2", sizeof(T));
    auto [planes, height, width, channels, pack] = maps;
    u32 count = planes * height * width * channels, rows = height / 2, columns = width / 2, out = planes * rows * columns * channels;
    std::vector<T> x = whole_numbers<T>(count, 3.0f, 3), dy = numbers<T>(out, 3.0f, 4), y = room<T>(out), dx = room<T>(count);
    u32 packs = channels / pack;
    gpu::launch(blocks(out / pack, most), THREADS, forward, x.data(), y.data(), out / pack, height, width, packs, 0.0f);
    gpu::launch(blocks(count / pack, most), THREADS, backward, x.data(), dy.data(), dx.data(), count / pack, height, width, packs, 0.0f);
    Doubles y_right, dx_right(count);
    for (u32 i = 0; i < out; i++) {
        u32 place = i / channels, plane = place / (rows * columns), row = place / columns % rows, column = place % columns;
        u32 corner = ((plane * height + 2 * row) * width + 2 * column) * channels + i % channels, first = corner;
        for (u32 at : {corner + channels, corner + width * channels, corner + (width + 1) * channels}) {
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

static const Activation RELU = {"relu", 0.0f, [](double x) { return std::fmax(x, 0.0); }, [](double x) { return x > 0.0 ? 1.0 : 0.0; }};
static const Activation RELU6 = {"relu6", 0.0f, [](double x) { return std::fmin(std::fmax(x, 0.0), 6.0); },
                                 [](double x) { return x > 0.0 && x < 6.0 ? 1.0 : 0.0; }};
static const Activation LEAKY_RELU = {"leaky_relu", SLOPE, [](double x) { return x > 0.0 ? x : SLOPE * x; },
                                      [](double x) { return x > 0.0 ? 1.0 : SLOPE; }};

template <class T, class Forward, class Backward>
static void activation(const Activation& right, Forward forward, Backward backward, u32 pack = 1, u32 most = 1 << 14) {
    u32 count = 3000, steps = count / pack;
    std::printf("%s of %u, %u bytes each, packs of %u\n", right.name, count, (u32)sizeof(T), pack);
    std::vector<T> x = numbers<T>(count, 9.0f, 5), dy = numbers<T>(count, 3.0f, 6), y = room<T>(count), dx = room<T>(count);
    gpu::launch(blocks(steps, most), THREADS, forward, x.data(), y.data(), steps, 1u, 1u, steps, right.slope);
    gpu::launch(blocks(steps, most), THREADS, backward, x.data(), dy.data(), dx.data(), steps, 1u, 1u, steps, right.slope);
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
    gpu::launch({1}, THREADS, relu6, x.data(), y.data(), 4u, 1u, 4u, 1u, 0.0f);
    gpu::launch({1}, THREADS, relu6_backward, x.data(), dy.data(), dx.data(), 4u, 1u, 4u, 1u, 0.0f);
    bool kept = std::isnan(to_float(y[2]));
    put(y[2], 0.0f);
    expect("y", {0.0, 6.0, 0.0, 5.0}, floats(y), 0.0);
    expect("dx", {0.0, 0.0, 0.0, 1.0}, floats(dx), 0.0);

    put(x[1], NAN);
    gpu::launch({1}, THREADS, pool, x.data(), y.data(), 1u, 2u, 2u, 1u, 0.0f);
    gpu::launch({1}, THREADS, pool_backward, x.data(), dy.data(), dx.data(), 4u, 2u, 2u, 1u, 0.0f);
    expect("dx", {0.0, 0.0, 1.0, 0.0}, floats(dx), 0.0);
    if (!kept || !std::isnan(to_float(y[0]))) {
        std::fprintf(stderr, "a NaN is lost\n");
        std::exit(1);
    }
}

// Maps [batch, channels, area] or, `last`, [batch, area, channels]; `pack` is how many numbers the kernels take as one.
struct Biased {
    u32 batch, channels, area, pack;
    bool last;
};

template <class T, class Add>
static void bias_add(Add add, Biased maps, bool besides, u32 most = 1 << 12) {
    auto [batch, channels, area, pack, last] = maps;
    std::printf("bias to [%u, %u, %u], %u bytes each, packs of %u%s%s\n", batch, channels, area, (u32)sizeof(T), pack,
                last ? ", channels last" : "", besides ? ", and another" : "");
    u32 count = batch * channels * area;
    std::vector<T> before = numbers<T>(count, 3.0f, 8), y = before, other = numbers<T>(count, 3.0f, 10);
    Floats of_channel = numbers<float>(channels, 1.0f, 9);
    u64 packs = count / pack;
    const T* beside = besides ? other.data() : nullptr;
    gpu::launch(blocks(packs, most), THREADS, add, y.data(), of_channel.data(), beside, packs, channels, area);
    Doubles y_right;
    for (u32 i = 0; i < count; i++) {
        u32 channel = last ? i % channels : i / area % channels;
        y_right.push_back((double)to_float(before[i]) + of_channel[channel] + (besides ? to_float(other[i]) : 0.0));
    }
    expect("y", y_right, floats(y), LIMIT<T>);
}

template <class T, class Sums>
static void plane_sums(Sums kernel, u32 batch, u32 channels, u32 area) {
    std::printf("sums of the planes of [%u, %u, %u], %u bytes each\n", batch, channels, area, (u32)sizeof(T));
    u32 planes = batch * channels;
    std::vector<T> dy = numbers<T>(planes * area, 3.0f, 8);
    Floats sums(planes, NAN), gradient(channels, NAN);
    gpu::launch({planes}, SUM_THREADS, kernel, dy.data(), sums.data(), area);
    gpu::launch({(channels + 63) / 64}, 64, fold, sums.data(), gradient.data(), batch, batch, channels);
    Doubles sums_right(planes), gradient_right(channels);
    for (u32 i = 0; i < planes * area; i++) {
        sums_right[i / area] += to_float(dy[i]);
        gradient_right[i / area % channels] += to_float(dy[i]);
    }
    expect("sums", sums_right, sums, 2e-6);
    expect("gradient", gradient_right, gradient, 2e-6);
}

// Over chunks of `span` rows, then of `each` chunks.
template <class T, class Sums>
static void column_sums(Sums kernel, u32 rows, u32 channels, u32 span, u32 each) {
    std::printf("sums of the columns of [%u, %u], %u bytes each\n", rows, channels, (u32)sizeof(T));
    u32 chunks = (rows + span - 1) / span, stretches = (chunks + each - 1) / each, across = (channels + 63) / 64;
    std::vector<T> dy = numbers<T>(rows * channels, 3.0f, 8);
    Floats parts(chunks * channels, NAN), fewer(stretches * channels, NAN), gradient(channels, NAN);
    gpu::launch({chunks}, COLUMN_THREADS, kernel, dy.data(), parts.data(), channels, rows, span);
    gpu::launch({across, stretches}, 64, fold, parts.data(), fewer.data(), chunks, each, channels);
    gpu::launch({across}, 64, fold, fewer.data(), gradient.data(), stretches, stretches, channels);
    Doubles right(channels);
    for (u32 i = 0; i < rows * channels; i++) {
        right[i % channels] += to_float(dy[i]);
    }
    expect("gradient", right, gradient, 2e-6);
}

int main() {
    Maps first[] = {{3, 4, 6}, {2, 5, 7}, {3, 7, 4}, {1, 10, 33}, {2, 2, 2}, {2, 1, 5}, {2, 9, 1}, {5, 17, 19}};
    for (Maps maps : first) {
        upsample2<float>(upsample2_forward_f32, upsample2_backward_f32, maps);
        upsample2<bf16>(upsample2_forward_bf16, upsample2_backward_bf16, maps, 2);
        // ../small.rs refuses maps of which nothing is left.
        if (maps.height > 1 && maps.width > 1) {
            max_pool2<float>(max_pool2_forward_f32, max_pool2_backward_f32, maps, 1);
            max_pool2<bf16>(max_pool2_forward_bf16, max_pool2_backward_bf16, maps);
        }
    }
    Maps last[] = {{3, 4, 6, 8}, {2, 5, 7, 24}, {1, 9, 2, 40}, {2, 2, 3, 72}};
    for (Maps maps : last) {
        upsample2<float>(upsample2_last_forward_f32, upsample2_last_backward_f32, maps);
        upsample2<bf16>(upsample2_last_forward_bf16, upsample2_last_backward_bf16, maps, 2);
        max_pool2<float>(max_pool2_last_forward_f32, max_pool2_last_backward_f32, maps);
        max_pool2<bf16>(max_pool2_last_forward_bf16, max_pool2_last_backward_bf16, maps, 2);
        maps.pack = 4;
        upsample2<float>(upsample2_last_forward_f32_wide, upsample2_last_backward_f32_wide, maps, 1);
        max_pool2<float>(max_pool2_last_forward_f32_wide, max_pool2_last_backward_f32_wide, maps, 1);
        maps.pack = 8;
        upsample2<bf16>(upsample2_last_forward_bf16_wide, upsample2_last_backward_bf16_wide, maps);
        max_pool2<bf16>(max_pool2_last_forward_bf16_wide, max_pool2_last_backward_bf16_wide, maps);
    }
    activation<float>(RELU, relu_forward_f32, relu_backward_f32);
    activation<float>(RELU, relu_forward_f32_wide, relu_backward_f32_wide, 4, 2);
    activation<bf16>(RELU, relu_forward_bf16, relu_backward_bf16, 1, 3);
    activation<bf16>(RELU, relu_forward_bf16_wide, relu_backward_bf16_wide, 8);
    activation<float>(RELU6, relu6_forward_f32, relu6_backward_f32);
    activation<float>(RELU6, relu6_forward_f32_wide, relu6_backward_f32_wide, 4, 2);
    activation<bf16>(RELU6, relu6_forward_bf16, relu6_backward_bf16, 1, 3);
    activation<bf16>(RELU6, relu6_forward_bf16_wide, relu6_backward_bf16_wide, 8);
    activation<float>(LEAKY_RELU, leaky_relu_forward_f32, leaky_relu_backward_f32, 1, 3);
    activation<float>(LEAKY_RELU, leaky_relu_forward_f32_wide, leaky_relu_backward_f32_wide, 4);
    activation<bf16>(LEAKY_RELU, leaky_relu_forward_bf16, leaky_relu_backward_bf16);
    activation<bf16>(LEAKY_RELU, leaky_relu_forward_bf16_wide, leaky_relu_backward_bf16_wide, 8, 1);
    special<float>(relu6_forward_f32, relu6_backward_f32, max_pool2_forward_f32, max_pool2_backward_f32);
    special<bf16>(relu6_forward_bf16, relu6_backward_bf16, max_pool2_forward_bf16, max_pool2_backward_bf16);
    special<float>(relu6_forward_f32, relu6_backward_f32, max_pool2_last_forward_f32, max_pool2_last_backward_f32);
    special<bf16>(relu6_forward_bf16, relu6_backward_bf16, max_pool2_last_forward_bf16, max_pool2_last_backward_bf16);

    for (bool besides : {false, true}) {
        bias_add<float>(bias_add_f32, {2, 5, 35, 1, false}, besides);
        bias_add<float>(bias_add_f32, {3, 70, 1, 1, false}, besides, 2);
        bias_add<bf16>(bias_add_bf16, {1, 3, 700, 1, false}, besides, 2);
        bias_add<float>(bias_add_f32_wide, {2, 3, 1032, 4, false}, besides, 2);
        bias_add<bf16>(bias_add_bf16_wide, {2, 70, 8, 8, false}, besides);
        bias_add<float>(bias_add_last_f32, {2, 5, 35, 1, true}, besides);
        bias_add<bf16>(bias_add_last_bf16, {3, 70, 3, 1, true}, besides, 2);
        bias_add<float>(bias_add_last_f32_wide, {2, 24, 35, 4, true}, besides);
        bias_add<bf16>(bias_add_last_bf16_wide, {2, 72, 33, 8, true}, besides, 2);
    }
    plane_sums<float>(plane_sums_f32, 2, 5, 35);
    plane_sums<float>(plane_sums_f32, 3, 70, 1);
    plane_sums<bf16>(plane_sums_bf16, 1, 3, 700);
    plane_sums<float>(plane_sums_f32_wide, 2, 3, 1032);
    plane_sums<bf16>(plane_sums_bf16_wide, 2, 70, 8);
    column_sums<float>(column_sums_f32, 700, 5, 300, 2);
    column_sums<bf16>(column_sums_bf16, 9, 300, 2, 3);
    column_sums<float>(column_sums_f32_wide, 130, 24, 64, 3);
    column_sums<bf16>(column_sums_bf16_wide, 333, 72, 32, 4);
    column_sums<bf16>(column_sums_bf16_wide, 3, 2304, 4, 1);
}
