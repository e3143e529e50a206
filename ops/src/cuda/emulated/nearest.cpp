// nearest.cu against its definition, to the bit.
#include "gpu.h"

#include "../common.cuh"
#include "../nearest.cu"
#include "check.h"
#include "search.h"

#include <algorithm>
#include <cfloat>
#include <limits>

typedef std::vector<float> Floats;

static void compare(const char* what, const Floats& table, const Floats& queries, u32 dim) {
    std::printf("  %s\n", what);
    Nearest right = defined(table, queries, dim);
    expect_same(right, search(table, queries, dim));
    // Parts of more than one tile.
    expect_same(right, search(table, queries, dim, 2));
}

static void check(u32 n, u32 m, u32 dim) {
    std::printf("dim %u: %u entries, %u queries\n", dim, n, m);
    Floats table = numbers(n * dim, 1.0f, 1), queries = numbers(m * dim, 1.0f, 2);
    compare("ordinary", table, queries, dim);

    // Every entry is there twice, once in another part where there are some, and every other query lies on one.
    Floats twice = table;
    for (u32 i = n / 2 * dim; i < n * dim; i++) {
        twice[i] = twice[i - n / 2 * dim];
    }
    Floats on_entries = queries;
    for (u32 i = 0; i < m * dim; i++) {
        on_entries[i] = i / dim % 2 == 0 ? twice[(i / dim * 7919 % n) * dim + i % dim] : on_entries[i];
    }
    compare("on entries that are there twice", twice, on_entries, dim);

    // Few different numbers, so that many entries are as near.
    auto coarse = [](Floats all) {
        for (float& number : all) {
            number = std::round(number);
        }
        return all;
    };
    compare("ties", coarse(table), coarse(queries), dim);
    compare("all alike", Floats(n * dim, 1.0f), queries, dim);

    // Far from 0, where differences are rounded.
    auto moved = [](Floats all, float factor, float add) {
        for (float& number : all) {
            number = number * factor + add;
        }
        return all;
    };
    compare("far from 0", moved(table, 1.0f, 1000.0f), moved(queries, 1.0f, 1000.0f), dim);
    // So small that squares are not normal numbers, or 0. CPUs take long for these.
    Floats few(queries.begin(), queries.begin() + (m < 40 ? m : 40) * dim);
    compare("small", moved(table, 1e-20f, 0.0f), moved(few, 1e-20f, 0.0f), dim);
    compare("tiny", moved(table, 1e-22f, 0.0f), moved(few, 1e-22f, 0.0f), dim);

    // About half the distances overflow, all, or all but one.
    float reach = 2.3e19f / std::sqrt((float)dim);
    compare("some overflow", moved(table, reach, 0.0f), moved(queries, reach, 0.0f), dim);
    compare("all overflow", moved(table, 1.0f, FLT_MAX), moved(queries, 1.0f, -FLT_MAX), dim);
    Floats one = Floats(n * dim, FLT_MAX);
    std::fill(one.end() - dim, one.end(), 1.0f);
    compare("all but the last overflow", one, queries, dim);
}

static void check_first(const char* what, const Floats& values, u64 right) {
    u64 count = values.size(), blocks = (count + THREADS - 1) / THREADS, first = ~0ull;
    gpu::launch({(u32)(blocks < 1024 ? blocks : 1024)}, THREADS, first_not_finite, values.data(), count, &first);
    std::printf("  %s\n", what);
    expect("the first that is not finite", first == right);
}

static void check_finite(u32 count) {
    std::printf("not finite, of %u\n", count);
    float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    Floats values = numbers(count, 1.0f, 3);
    values[0] = FLT_MAX;
    values[count / 2] = -FLT_MAX;
    values[count / 3] = std::numeric_limits<float>::denorm_min();
    check_first("none", values, ~0ull);
    values[count - 1] = -infinity;
    check_first("the last", values, count - 1);
    values[count / 2] = nan;
    check_first("NaN before -inf", values, count / 2);
    values[count / 2 - 1] = infinity;
    check_first("inf before NaN", values, count / 2 - 1);
    values[0] = -nan;
    check_first("-NaN", values, 0);
}

int main() {
    check(600, 1030, 4);
    check(520, 520, 8);
    check(513, 260, 16);
    check(300, 200, 1);
    check(133, 129, 13);
    check(130, 140, 40);
    check(64, 30, 33);
    for (u32 dim : {4, 8, 16, 1, 32}) {
        check(1, 1, dim);
        check(2, 3, dim);
    }
    check_finite(10);
    check_finite(1000);
    // More than a thread each.
    check_finite(300000);
}
