// norm.cu against its definitions in double precision, and the fold of common.cuh.
#include "gpu.h"

#include "../common.cuh"
#include "../norm.cuh"
#include "../norm.cu"
#include "check.h"
#include "norm.h"

template <class T, class Forward, class Sums, class Backward>
static void check(const char* suffix, Forward forward, Sums sums, Backward backward, double limit, const Case& c) {
    c.print(suffix);
    u32 rows = c.batch * c.groups, planes = c.batch * c.channels, columns = 2 * c.channels;
    std::vector<T> x = numbers<T>(c.count(), 2.0f, 1, c.mean), dy = numbers<T>(x.size(), 1.0f, 2, 0.25f), y(x.size()), dx(y);
    Floats weight = numbers<float>(c.channels, 1.0f, 3, 0.5f), bias = numbers<float>(c.channels, 1.0f, 4);
    Floats stats(2 * rows, NAN), parts(2 * planes, NAN), both(columns, NAN);

    gpu::launch({rows}, ROW_THREADS, forward, x.data(), weight.data(), bias.data(), y.data(), stats.data(), c.channels, c.groups,
                c.area, EPS, (u32)c.swish);
    gpu::launch({planes}, PLANE_THREADS, sums, x.data(), dy.data(), weight.data(), bias.data(), stats.data(), parts.data(), c.channels,
                c.groups, c.area, (u32)c.swish);
    gpu::launch({rows}, ROW_THREADS, backward, x.data(), dy.data(), weight.data(), bias.data(), stats.data(), parts.data(), dx.data(),
                c.channels, c.groups, c.area, (u32)c.swish);
    gpu::launch({(columns + 63) / 64}, 64, fold, parts.data(), both.data(), c.batch, c.batch, columns);
    compare(c, floats(x), floats(dy), weight, bias, {floats(y), floats(dx), stats, both}, limit);
}

static void check_all(const Case& c, bool wide) {
    if (wide) {
        check<float>("f32_wide", norm_forward_f32_wide, norm_sums_f32_wide, norm_backward_f32_wide, 2e-6, c);
        check<bf16>("bf16_wide", norm_forward_bf16_wide, norm_sums_bf16_wide, norm_backward_bf16_wide, 0.004, in_bf16(c));
    } else {
        check<float>("f32", norm_forward_f32, norm_sums_f32, norm_backward_f32, 2e-6, c);
        check<bf16>("bf16", norm_forward_bf16, norm_sums_bf16, norm_backward_bf16, 0.004, in_bf16(c));
    }
}

int main() {
    for (auto [mean, swish] : WAYS) {
        // A plane of many packs, a row of many planes with sums of more columns than a block of the fold has, and a plane a row.
        check_all({1, 4, 2, 2104, mean, swish}, true);
        check_all({3, 36, 4, 8, mean, swish}, true);
        check_all({2, 3, 3, 40, mean, swish}, true);
        check_all({1, 4, 2, 700, mean, swish}, false);
        check_all({3, 36, 4, 8, mean, swish}, false);
        check_all({2, 6, 1, 1, mean, swish}, false);
    }
    // Groups of one number each: nothing is left of x.
    check_all({2, 3, 3, 1, 5.0f, true}, false);
}
