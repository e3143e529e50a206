// What the checks of kernels share; common.cuh comes before it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

// Numbers of a formula, about -1 to 1.
struct Random {
    uint64_t state;
    float next() {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (float)((int64_t)state >> 40) / (float)(1 << 23);
    }
};

// `count` numbers, at most `reach` from `middle`.
template <class T = float>
std::vector<T> numbers(u32 count, float reach, u32 seed, float middle = 0.0f) {
    Random random = {seed};
    std::vector<T> out(count);
    for (T& number : out) {
        put(number, middle + reach * random.next());
    }
    return out;
}

template <class T>
std::vector<float> floats(const std::vector<T>& numbers) {
    std::vector<float> out;
    for (T number : numbers) {
        out.push_back(to_float(number));
    }
    return out;
}

// Ends the program where something is further than `limit` from what is right, in parts of the greatest or, if all is 0, of 1.
inline void expect(const char* what, const std::vector<double>& right, const std::vector<float>& found, double limit) {
    double greatest = 0.0, apart = 0.0;
    bool whole = right.size() == found.size() && !right.empty();
    for (size_t i = 0; i < right.size() && whole; i++) {
        greatest = std::fmax(greatest, std::fabs(right[i]));
        double difference = std::fabs(right[i] - found[i]);
        whole = std::isfinite(found[i]);
        apart = std::fmax(apart, difference);
    }
    apart /= greatest > 0.0 ? greatest : 1.0;
    bool ok = whole && apart <= limit;
    std::printf("  %-8s %.1e of %.1e at most\n", what, apart, limit);
    if (!ok) {
        std::fprintf(stderr, "%s is wrong\n", what);
        std::exit(1);
    }
}
