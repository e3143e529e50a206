// distance.cu against its definition in double precision, its gradient against differences of that.
#include "gpu.h"

#include "../common.cuh"
#include "../distance.cu"
#include "check.h"

typedef std::vector<float> Floats;
typedef std::vector<double> Doubles;

static double norm(const double* x, u32 channels) {
    double squares = (double)EPS * EPS;
    for (u32 c = 0; c < channels; c++) {
        squares += x[c] * x[c];
    }
    return std::sqrt(squares) + EPS;
}

// At one position.
static double defined(const double* a, const double* b, const Floats& weight) {
    u32 channels = weight.size();
    double by_a = norm(a, channels), by_b = norm(b, channels), sum = 0.0;
    for (u32 c = 0; c < channels; c++) {
        double apart = a[c] / by_a - b[c] / by_b;
        sum += weight[c] * apart * apart;
    }
    return sum;
}

struct Case {
    u32 batch, area, channels, span, lanes;
};

template <class T, class Forward, class Backward>
static void check(Forward forward, Backward backward, u32 pack, double limit, const Case& c) {
    auto [batch, area, channels, span, lanes] = c;
    std::printf("distance of [%u, %u, %u], %u bytes each, packs of %u, %u lanes\n", batch, area, channels, (u32)sizeof(T), pack, lanes);
    u32 chunks = (area + span - 1) / span, count = batch * area * channels;
    std::vector<T> a = numbers<T>(count, 3.0f, 1), b = numbers<T>(count, 2.0f, 2), da(count);
    for (T& number : da) {
        put(number, NAN);
    }
    // Of relu: some are 0, and at the last position all are.
    for (u32 i = 0; i < count; i++) {
        bool silent = i >= count - channels;
        put(a[i], silent ? 0.0f : std::fmax(to_float(a[i]), 0.0f));
        put(b[i], std::fmax(to_float(b[i]), 0.0f));
    }
    Floats weight = numbers<float>(channels, 0.5f, 3, 0.5f), dy = numbers<float>(batch, 1.0f, 4, 2.0f);
    Floats parts(batch * chunks, NAN), y(batch, NAN);
    gpu::launch({batch * chunks}, DISTANCE_THREADS, forward, a.data(), b.data(), weight.data(), parts.data(), channels, area, span, chunks,
                lanes);
    dim3 stretches = {1, batch};
    gpu::launch(stretches, 64, fold, parts.data(), y.data(), batch * chunks, chunks, 1u);
    gpu::launch({batch * chunks}, DISTANCE_THREADS, backward, a.data(), b.data(), weight.data(), dy.data(), da.data(), channels, area, span,
                chunks, lanes);
    Doubles y_right(batch), da_right;
    for (u32 at = 0; at < batch * area; at++) {
        Doubles here, there;
        for (u32 i = at * channels; i < (at + 1) * channels; i++) {
            here.push_back(to_float(a[i]));
            there.push_back(to_float(b[i]));
        }
        y_right[at / area] += defined(here.data(), there.data(), weight) / area;
        for (u32 i = 0; i < channels; i++) {
            double apart = 1e-5, was = here[i];
            here[i] = was + apart;
            double above = defined(here.data(), there.data(), weight);
            here[i] = was - apart;
            double below = defined(here.data(), there.data(), weight);
            here[i] = was;
            da_right.push_back(dy[at / area] * (above - below) / (2.0 * apart) / area);
        }
    }
    // Where all is silent the gradient is the limit's, far greater than a difference shows; it must be a number.
    Floats found = floats(da);
    for (u32 i = count - channels; i < count; i++) {
        if (!std::isfinite(found[i])) {
            std::fprintf(stderr, "the gradient of silence is no number\n");
            std::exit(1);
        }
    }
    found.resize(count - channels);
    da_right.resize(count - channels);
    expect("y", y_right, y, 2e-6);
    expect("da", da_right, found, limit);
}

int main() {
    check<float>(distance_forward_f32, distance_backward_f32, 1, 1e-6, {2, 9, 5, 4, 8});
    check<float>(distance_forward_f32, distance_backward_f32, 1, 1e-6, {1, 70, 33, 70, 32});
    check<float>(distance_forward_f32_wide, distance_backward_f32_wide, 4, 1e-6, {2, 65, 24, 33, 8});
    check<float>(distance_forward_f32_wide, distance_backward_f32_wide, 4, 1e-6, {1, 20, 72, 16, 16});
    check<bf16>(distance_forward_bf16, distance_backward_bf16, 1, 0.004, {2, 9, 5, 4, 8});
    check<bf16>(distance_forward_bf16_wide, distance_backward_bf16_wide, 8, 0.004, {3, 40, 64, 17, 8});
    check<bf16>(distance_forward_bf16_wide, distance_backward_bf16_wide, 8, 0.004, {1, 19, 264, 19, 32});
    check<bf16>(distance_forward_bf16_wide, distance_backward_bf16_wide, 8, 0.004, {2, 3, 512, 2, 32});
}
