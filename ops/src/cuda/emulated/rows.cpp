// rows.cu against its definitions in double precision.
#include "gpu.h"

#include "../common.cuh"
#include "../rows.cu"
#include "check.h"

typedef std::vector<float> Floats;
typedef std::vector<double> Doubles;

static void standardise(u32 rows, u32 length) {
    std::printf("standardise %u x %u\n", rows, length);
    float eps = 1e-5f;
    Floats x = numbers(rows * length, 3.0f, 1), dy = numbers(rows * length, 1.0f, 2), y(x.size(), NAN), dx(y);
    for (float& number : x) {
        number += 5.0f;
    }
    dim3 blocks = {(rows + ROWS - 1) / ROWS};
    gpu::launch(blocks, THREADS, standardise_forward, x.data(), y.data(), (u64)rows, length, eps);
    gpu::launch(blocks, THREADS, standardise_backward, x.data(), dy.data(), dx.data(), (u64)rows, length, eps);
    Doubles y_right(x.size()), dx_right(x.size());
    for (u32 r = 0; r < rows; r++) {
        const float *row = &x[r * length], *grad = &dy[r * length];
        double mean = 0.0, variance = 0.0, sum = 0.0, along = 0.0;
        for (u32 i = 0; i < length; i++) {
            mean += row[i] / (double)length;
        }
        for (u32 i = 0; i < length; i++) {
            variance += (row[i] - mean) * (row[i] - mean) / length;
        }
        double factor = 1.0 / std::sqrt(variance + eps);
        for (u32 i = 0; i < length; i++) {
            y_right[r * length + i] = (row[i] - mean) * factor;
            sum += grad[i] / (double)length;
            along += grad[i] * y_right[r * length + i] / length;
        }
        for (u32 i = 0; i < length; i++) {
            dx_right[r * length + i] = factor * (grad[i] - sum - y_right[r * length + i] * along);
        }
    }
    expect("y", y_right, y, 1e-6);
    expect("dx", dx_right, dx, 2e-6);
}

static void softmax(u32 rows, u32 length, u32 causal) {
    std::printf("softmax %u x %u, causal %u\n", rows, length, causal);
    float scale = 0.7f;
    Floats x = numbers(rows * length, 9.0f, 3), dy = numbers(rows * length, 1.0f, 4), y(x.size(), NAN), dx(y);
    dim3 blocks = {(rows + ROWS - 1) / ROWS};
    gpu::launch(blocks, THREADS, softmax_forward, x.data(), y.data(), (u64)rows, length, scale, causal);
    gpu::launch(blocks, THREADS, softmax_backward, y.data(), dy.data(), dx.data(), (u64)rows, length, scale);
    Doubles y_right(x.size()), dx_right(x.size());
    for (u32 r = 0; r < rows; r++) {
        u32 count = causal ? length - causal + 1 + r % causal : length;
        double sum = 0.0, shared = 0.0;
        for (u32 i = 0; i < count; i++) {
            sum += std::exp((double)scale * x[r * length + i]);
        }
        for (u32 i = 0; i < count; i++) {
            y_right[r * length + i] = std::exp((double)scale * x[r * length + i]) / sum;
            shared += y_right[r * length + i] * dy[r * length + i];
        }
        for (u32 i = 0; i < count; i++) {
            dx_right[r * length + i] = scale * y_right[r * length + i] * (dy[r * length + i] - shared);
        }
    }
    expect("y", y_right, y, 2e-6);
    expect("dx", dx_right, dx, 2e-6);
}

static double gelu_of(double x, bool tanh) {
    double inner = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
    return tanh ? 0.5 * x * (1.0 + std::tanh(inner)) : 0.5 * x * std::erfc(-x / std::sqrt(2.0));
}

static void gelu(u32 count, bool tanh) {
    std::printf("gelu of %u%s\n", count, tanh ? ", by tanh" : "");
    Floats x = numbers(count, 9.0f, 5), dy = numbers(count, 1.0f, 6), y(x.size(), NAN), dx(y);
    dim3 blocks = {(count + THREADS - 1) / THREADS};
    gpu::launch(blocks, THREADS, gelu_forward, x.data(), y.data(), (u64)count, (u32)tanh);
    gpu::launch(blocks, THREADS, gelu_backward, x.data(), dy.data(), dx.data(), (u64)count, (u32)tanh);
    Doubles y_right, dx_right;
    for (u32 i = 0; i < count; i++) {
        double apart = 1e-6;
        y_right.push_back(gelu_of(x[i], tanh));
        dx_right.push_back(dy[i] * (gelu_of(x[i] + apart, tanh) - gelu_of(x[i] - apart, tanh)) / (2.0 * apart));
    }
    expect("y", y_right, y, 1e-6);
    expect("dx", dx_right, dx, 2e-6);
}

static void entropy(u32 rows, u32 length, float smoothing, float reach) {
    std::printf("cross-entropy %u x %u, smoothing %.1f\n", rows, length, smoothing);
    Floats logits = numbers(rows * length, reach, 7), losses(rows, NAN);
    std::vector<u32> targets;
    for (u32 r = 0; r < rows; r++) {
        targets.push_back(r * 7919 % length);
    }
    Doubles losses_right, gradient_right;
    for (u32 r = 0; r < rows; r++) {
        const float* x = &logits[r * length];
        double sum = 0.0, even = 0.0;
        for (u32 i = 0; i < length; i++) {
            sum += std::exp((double)x[i] - reach);
            even += x[i] / (double)length;
        }
        double log = std::log(sum) + reach;
        losses_right.push_back((1.0 - smoothing) * (log - x[targets[r]]) + smoothing * (log - even));
        for (u32 i = 0; i < length; i++) {
            double hit = i == targets[r] ? 1.0 - smoothing : 0.0;
            gradient_right.push_back(std::exp(x[i] - log) - hit - smoothing / length);
        }
    }
    gpu::launch({rows}, WIDE, cross_entropy, logits.data(), targets.data(), losses.data(), length, smoothing);
    expect("losses", losses_right, losses, 2e-6);
    expect("dlogits", gradient_right, logits, 2e-6);
}

int main() {
    standardise(9, 40);
    standardise(3, 1024);
    softmax(10, 70, 0);
    softmax(12, 70, 6);
    softmax(8, 4, 4);
    gelu(1000, false);
    gelu(1000, true);
    entropy(5, 3000, 0.0f, 8.0f);
    entropy(3, 700, 0.1f, 80.0f);
    entropy(2, 3, 0.1f, 1.0f);
    // A target that is no column.
    std::vector<float> logits(5, 1.0f), losses(1);
    std::vector<u32> targets(1, 5);
    gpu::launch({1}, WIDE, cross_entropy, logits.data(), targets.data(), losses.data(), 5u, 0.0f);
    if (!std::isnan(losses[0])) {
        std::fprintf(stderr, "a target that is no column is not seen\n");
        return 1;
    }
}
