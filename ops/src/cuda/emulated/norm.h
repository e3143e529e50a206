// What the checks of both normalisations share: definitions in double precision. check.h comes before it.
#pragma once

typedef std::vector<float> Floats;
typedef std::vector<double> Doubles;

struct Case {
    u32 batch, channels, groups, area;
    float mean;
    bool swish;

    u32 count() const { return batch * channels * area; }
    void print(const char* suffix) const {
        std::printf("%s: [%u, %u, %u], %u groups, mean %g%s\n", suffix, batch, channels, area, groups, mean, swish ? ", swish" : "");
    }
};

constexpr float EPS = 1e-6f;

static double activation(double u, bool swish) { return swish ? u / (1.0 + std::exp(-u)) : u; }

static double slope(double u, bool swish) {
    double apart = 1e-5;
    return (activation(u + apart, swish) - activation(u - apart, swish)) / (2.0 * apart);
}

// Numbers in the order [batch, channels, area]; what kernels find is compared with what is right.
struct Results {
    Floats y, dx, stats, both;
};

// Compares what was found for x and dy, in the order [batch, channels, area]; `limit` says how much is lost because results are rounded.
static void compare(const Case& c, const Floats& x, const Floats& dy, const Floats& weight, const Floats& bias, const Results& found,
                    double limit) {
    // What is lost because the mean is an f32 and far from 0.
    double far = c.mean * 5e-8;
    u32 rows = c.batch * c.groups, planes_a_row = c.channels / c.groups, row_length = planes_a_row * c.area;
    Doubles y_right, dx_right, means, scales, both_right(2 * c.channels);
    for (u32 r = 0; r < rows; r++) {
        auto channel = [&](u32 i) { return r % c.groups * planes_a_row + i / c.area; };
        auto at = [&](const Floats& of, u32 i) { return (double)of[r * row_length + i]; };
        double mean = 0.0, variance = 0.0, count = row_length;
        for (u32 i = 0; i < row_length; i++) {
            mean += at(x, i) / count;
        }
        for (u32 i = 0; i < row_length; i++) {
            variance += (at(x, i) - mean) * (at(x, i) - mean) / count;
        }
        double scale = 1.0 / std::sqrt(variance + EPS);
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
            dvariance -= dunit[i] * (at(x, i) - mean) * scale / (variance + EPS) / 2.0;
        }
        for (u32 i = 0; i < row_length; i++) {
            dx_right.push_back(dunit[i] * scale + dmean / count + dvariance * 2.0 * (at(x, i) - mean) / count);
        }
    }
    Floats means_found, scales_found;
    for (u32 r = 0; r < rows; r++) {
        means_found.push_back(found.stats[2 * r]);
        scales_found.push_back(found.stats[2 * r + 1]);
    }
    expect("mean", means, means_found, 1e-6);
    expect("scale", scales, scales_found, far + 1e-6);
    expect("y", y_right, found.y, far + limit);
    expect("dx", dx_right, found.dx, far + limit);
    auto halves = [&](const auto& both, u32 half) {
        return std::remove_const_t<std::remove_reference_t<decltype(both)>>(both.begin() + half * c.channels,
                                                                          both.begin() + (half + 1) * c.channels);
    };
    expect("dbias", halves(both_right, 0), halves(found.both, 0), far + 2e-6);
    // Here the mean's error is the same in each number of the sum, and so adds up.
    expect("dweight", halves(both_right, 1), halves(found.both, 1), 10.0 * far + 2e-6);
}

// bf16 has 8 bits: between 998 and 1002 it has one number, between 28 and 32 many.
static Case in_bf16(Case c) {
    c.mean = std::fmin(c.mean, 30.0f);
    return c;
}

struct Way {
    float mean;
    bool swish;
};
static const Way WAYS[] = {{0.0f, false}, {0.0f, true}, {1000.0f, true}};
