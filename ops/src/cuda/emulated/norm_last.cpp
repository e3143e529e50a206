// norm_last.cu against its definitions in double precision, and the fold of common.cuh over several stretches.
#include "gpu.h"

#include "../common.cuh"
#include "../norm.cuh"
#include "../norm_last.cu"
#include "check.h"
#include "norm.h"

// Numbers [batch, channels, area] to [batch, area, channels] or, `back`, from there.
template <class T>
static std::vector<T> turned(const std::vector<T>& from, const Case& c, bool back) {
    std::vector<T> to(from.size());
    for (u32 b = 0; b < c.batch; b++) {
        for (u32 channel = 0; channel < c.channels; channel++) {
            for (u32 i = 0; i < c.area; i++) {
                u32 first = (b * c.channels + channel) * c.area + i, last = (b * c.area + i) * c.channels + channel;
                to[back ? first : last] = from[back ? last : first];
            }
        }
    }
    return to;
}

// `span` as in ../norm/last.rs, and `folded` the one of the sums. With `biased` x lacks a bias that the kernels add.
template <class T, class Moments, class Forward, class Sums, class Backward>
static void check(const char* suffix, Moments moments, Forward forward, Sums sums, Backward backward, double limit, const Case& c, u32 span,
                  u32 folded, bool biased) {
    c.print(suffix);
    u32 rows = c.batch * c.groups, columns = 2 * c.channels;
    u32 chunks = (c.area + span - 1) / span, sum_chunks = (c.area + folded - 1) / folded;
    std::vector<T> x = numbers<T>(c.count(), 2.0f, 1, c.mean), dy = numbers<T>(x.size(), 1.0f, 2, 0.25f);
    Floats weight = numbers<float>(c.channels, 1.0f, 3, 0.5f), bias = numbers<float>(c.channels, 1.0f, 4);
    Floats before = numbers<float>(c.channels, 4.0f, 5);
    Floats whole = floats(x);
    for (u32 i = 0; i < whole.size() && biased; i++) {
        whole[i] += before[i / c.area % c.channels];
    }
    const float* shift = biased ? before.data() : nullptr;
    std::vector<T> in = turned(x, c, false), grad = turned(dy, c, false), y(x.size()), dx(x.size());
    Floats parts(c.batch * chunks * columns, NAN), stats(2 * rows, NAN);
    Floats sum_parts(c.batch * sum_chunks * columns, NAN), by_picture(c.batch * columns, NAN), both(columns, NAN);

    gpu::launch({c.batch * chunks}, LAST_THREADS, moments, in.data(), parts.data(), c.channels, c.area, span, chunks);
    gpu::launch({rows}, GROUP_THREADS, norm_last_stats, parts.data(), shift, stats.data(), c.channels, c.groups, c.area, span, chunks, EPS);
    gpu::launch({c.batch * chunks}, LAST_THREADS, forward, in.data(), shift, stats.data(), weight.data(), bias.data(), y.data(), c.channels,
                c.groups, c.area, span, chunks, (u32)c.swish);
    gpu::launch({c.batch * sum_chunks}, LAST_THREADS, sums, in.data(), shift, grad.data(), stats.data(), weight.data(), bias.data(),
                sum_parts.data(), c.channels, c.groups, c.area, folded, sum_chunks, (u32)c.swish);
    dim3 stretches = {(columns + 63) / 64, c.batch};
    gpu::launch(stretches, 64, fold, sum_parts.data(), by_picture.data(), c.batch * sum_chunks, sum_chunks, columns);
    gpu::launch({(columns + 63) / 64}, 64, fold, by_picture.data(), both.data(), c.batch, c.batch, columns);
    auto backwards = [&](const T* beside, std::vector<T>& to) {
        gpu::launch({c.batch * chunks}, LAST_THREADS, backward, in.data(), shift, grad.data(), stats.data(), weight.data(), bias.data(),
                    by_picture.data(), beside, to.data(), c.channels, c.groups, c.area, span, chunks, (u32)c.swish);
    };
    std::vector<T> other = numbers<T>(x.size(), 1.0f, 6), with(x.size());
    backwards(nullptr, dx);
    backwards(other.data(), with);
    Doubles sums_right;
    for (u32 i = 0; i < x.size(); i++) {
        sums_right.push_back((double)to_float(dx[i]) + to_float(other[i]));
    }
    // The gradient was rounded before this sum, and not before the kernel's.
    expect("dx and", sums_right, floats(with), 2.0 * limit);
    compare(c, whole, floats(dy), weight, bias, {floats(turned(y, c, true)), floats(turned(dx, c, true)), stats, both}, limit);
}

static void check_all(const Case& c, bool wide, u32 span, u32 folded, bool biased = false) {
    if (wide) {
        check<float>("f32_wide", norm_last_moments_f32_wide, norm_last_forward_f32_wide, norm_last_sums_f32_wide,
                     norm_last_backward_f32_wide, 2e-6, c, span, folded, biased);
        check<bf16>("bf16_wide", norm_last_moments_bf16_wide, norm_last_forward_bf16_wide, norm_last_sums_bf16_wide,
                    norm_last_backward_bf16_wide, 0.004, in_bf16(c), span, folded, biased);
    } else {
        check<float>("f32", norm_last_moments_f32, norm_last_forward_f32, norm_last_sums_f32, norm_last_backward_f32, 2e-6, c, span, folded,
                     biased);
        check<bf16>("bf16", norm_last_moments_bf16, norm_last_forward_bf16, norm_last_sums_bf16, norm_last_backward_bf16, 0.004, in_bf16(c),
                    span, folded, biased);
    }
}

int main() {
    for (auto [mean, swish] : WAYS) {
        // Groups within a pack, of a pack, and over several; chunks that end early, one chunk, and a chunk of fewer rows than lanes.
        check_all({2, 16, 8, 530, mean, swish}, true, 200, 300, swish);
        check_all({1, 64, 8, 70, mean, swish}, true, 32, 70);
        check_all({3, 48, 3, 9, mean, swish}, true, 64, 4, swish);
        check_all({1, 8, 4, 9, mean, swish}, true, 64, 16);
        check_all({2, 6, 3, 1100, mean, swish}, false, 700, 500);
        check_all({2, 70, 10, 7, mean, swish}, false, 3, 7, true);
        // More channels than a block has threads for.
        check_all({1, 2304, 32, 3, mean, swish}, true, 2, 3);
        check_all({1, 270, 27, 3, mean, swish}, false, 4, 1, true);
    }
    // A channel is a group, as in batch normalisation; and groups of one number each, of which nothing is left.
    check_all({1, 24, 24, 300, 0.0f, false}, true, 128, 128);
    check_all({2, 3, 3, 1, 5.0f, true}, false, 1, 1);
}
