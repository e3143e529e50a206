// norm.cu against its definitions in double precision, and the fold of common.cuh.
#include "gpu.h"

#include "../common.cuh"
#include "../norm.cu"
#include "check.h"

struct Case {
    u32 batch, channels, groups, area;
    float mean;
    bool swish;
};

typedef std::vector<float> Floats;
typedef std::vector<double> Doubles;

static double activation(double u, bool swish) { return swish ? u / (1.0 + std::exp(-u)) : u; }

static double slope(double u, bool swish) {
    double apart = 1e-5;
    return (activation(u + apart, swish) - activation(u - apart, swish)) / (2.0 * apart);
}

// `limit` says how much is lost because results are rounded to T.
template <class T, class Forward, class Sums, class Backward>
static void check(const char* suffix, Forward forward, Sums sums, Backward backward, double limit, const Case& c) {
    std::printf("%s: [%u, %u, %u], %u groups, mean %g%s\n", suffix, c.batch, c.channels, c.area, c.groups, c.mean,
                c.swish ? ", swish" : "");
    float eps = 1e-6f;
    // What is lost because the mean is an f32 and far from 0.
    double far = c.mean * 5e-8;
    u32 rows = c.batch * c.groups, planes = c.batch * c.channels, planes_a_row = c.channels / c.groups;
    u32 row_length = planes_a_row * c.area;
    std::vector<T> x = numbers<T>(planes * c.area, 2.0f, 1, c.mean), dy = numbers<T>(x.size(), 1.0f, 2, 0.25f), y(x.size()), dx(y);
    Floats weight = numbers<float>(c.channels, 1.0f, 3, 0.5f), bias = numbers<float>(c.channels, 1.0f, 4);
    Floats stats(2 * rows, NAN), parts(2 * planes, NAN), both(2 * c.channels, NAN);

    gpu::launch({rows}, ROW_THREADS, forward, x.data(), weight.data(), bias.data(), y.data(), stats.data(), c.channels, c.groups,
                c.area, eps, (u32)c.swish);
    gpu::launch({planes}, PLANE_THREADS, sums, x.data(), dy.data(), weight.data(), bias.data(), stats.data(), parts.data(), c.channels,
                c.groups, c.area, (u32)c.swish);
    gpu::launch({rows}, ROW_THREADS, backward, x.data(), dy.data(), weight.data(), bias.data(), stats.data(), parts.data(), dx.data(),
                c.channels, c.groups, c.area, (u32)c.swish);
    u32 columns = 2 * c.channels;
    gpu::launch({(columns + 63) / 64}, 64, fold, parts.data(), both.data(), c.batch, columns);

    Doubles y_right, dx_right, means, scales, both_right(columns);
    for (u32 r = 0; r < rows; r++) {
        auto channel = [&](u32 i) { return r % c.groups * planes_a_row + i / c.area; };
        auto at = [&](const std::vector<T>& of, u32 i) { return (double)to_float(of[r * row_length + i]); };
        double mean = 0.0, variance = 0.0, count = row_length;
        for (u32 i = 0; i < row_length; i++) {
            mean += at(x, i) / count;
        }
        for (u32 i = 0; i < row_length; i++) {
            variance += (at(x, i) - mean) * (at(x, i) - mean) / count;
        }
        double scale = 1.0 / std::sqrt(variance + eps);
        means.push_back(mean);
        scales.push_back(scale);
        // The gradients of the mean, where the variance stands still, and of the variance.
        Doubles dunit;
        double dmean = 0.0, dvariance = 0.0;
        for (u32 i = 0; i < row_length; i++) {
            double unit = (at(x, i) - mean) * scale, u = unit * weight[channel(i)] + bias[channel(i)];
            double du = at(dy, i) * slope(u, c.swish);
            y_right.push_back(activation(u, c.swish));
            both_right[channel(i)] += du;
            both_right[c.channels + channel(i)] += du * unit;
            dunit.push_back(du * weight[channel(i)]);
            dmean -= dunit[i] * scale;
            dvariance -= dunit[i] * (at(x, i) - mean) * scale / (variance + eps) / 2.0;
        }
        for (u32 i = 0; i < row_length; i++) {
            dx_right.push_back(dunit[i] * scale + dmean / count + dvariance * 2.0 * (at(x, i) - mean) / count);
        }
    }
    Floats means_found, scales_found;
    for (u32 r = 0; r < rows; r++) {
        means_found.push_back(stats[2 * r]);
        scales_found.push_back(stats[2 * r + 1]);
    }
    expect("mean", means, means_found, 1e-6);
    expect("scale", scales, scales_found, far + 1e-6);
    expect("y", y_right, floats(y), far + limit);
    expect("dx", dx_right, floats(dx), far + limit);
    expect("dbias", Doubles(&both_right[0], &both_right[c.channels]), Floats(&both[0], &both[c.channels]), far + 2e-6);
    // Here the mean's error is the same in each number of the sum, and so adds up.
    expect("dweight", Doubles(both_right.begin() + c.channels, both_right.end()), Floats(both.begin() + c.channels, both.end()),
           10.0 * far + 2e-6);
}

static void check_all(const Case& c, bool wide) {
    // bf16 has 8 bits: between 998 and 1002 it has one number, between 28 and 32 many.
    Case in_bf16 = c;
    in_bf16.mean = std::fmin(c.mean, 30.0f);
    if (wide) {
        check<float>("f32_wide", norm_forward_f32_wide, norm_sums_f32_wide, norm_backward_f32_wide, 2e-6, c);
        check<bf16>("bf16_wide", norm_forward_bf16_wide, norm_sums_bf16_wide, norm_backward_bf16_wide, 0.004, in_bf16);
    } else {
        check<float>("f32", norm_forward_f32, norm_sums_f32, norm_backward_f32, 2e-6, c);
        check<bf16>("bf16", norm_forward_bf16, norm_sums_bf16, norm_backward_bf16, 0.004, in_bf16);
    }
}

int main() {
    struct {
        float mean;
        bool swish;
    } ways[] = {{0.0f, false}, {0.0f, true}, {1000.0f, true}};
    for (auto [mean, swish] : ways) {
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
