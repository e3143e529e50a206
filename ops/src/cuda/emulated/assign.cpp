// assign.cu and the search of nearest.cu against the definition of the nearest, to the bit.
#include "gpu.h"

#include "../common.cuh"
#include "../nearest.cu"
#include "../assign.cu"
#include "check.h"
#include "search.h"

#include <algorithm>

typedef std::vector<float> Floats;

// Features and centres of one product. Those of ../assign.rs take too long here.
constexpr u32 ROWS = 40, COLUMNS = 130;

struct Split {
    std::vector<bf16> parts;
    Floats squares;

    Split(const float* values, u32 rows, u32 dim, bool centres) : parts(3 * rows * dim), squares(rows, NAN) {
        gpu::launch({rows}, THREADS, assign_split, values, parts.data(), squares.data(), dim, (u32)centres);
    }
    // The two parts are the number but for 2^-17 of it, and lie where the product wants them.
    void expect_of(const float* values, u32 dim, bool centres) const {
        for (u32 row = 0; row < squares.size(); row++) {
            double square = 0.0;
            for (u32 d = 0; d < dim; d++) {
                const bf16* part = &parts[3 * row * dim + d];
                double number = values[row * dim + d], high = to_float(part[0]), low = to_float(part[(centres ? 1 : 2) * dim]);
                bool twice = part[0].bits == part[(centres ? 2 : 1) * dim].bits;
                expect("a split", twice && std::fabs(number - high - low) <= std::ldexp(std::fabs(number), -17));
                square += number * number;
            }
            expect("a square", std::fabs(squares[row] - square) <= 1e-6 * square);
        }
    }
};

// products [rows, columns], as cuBLAS makes them but for the order of the sum.
static void multiply(const Split& features, const Split& centres, u32 rows, u32 first, u32 columns, u32 dim, Floats& products) {
    Floats left, right;
    for (u32 i = 0; i < rows * 3 * dim; i++) {
        left.push_back(to_float(features.parts[i]));
    }
    for (u32 i = 0; i < columns * 3 * dim; i++) {
        right.push_back(to_float(centres.parts[first * 3 * dim + i]));
    }
    for (u32 row = 0; row < rows; row++) {
        for (u32 column = 0; column < columns; column++) {
            float sum = 0.0f;
            for (u32 k = 0; k < 3 * dim; k++) {
                sum += left[row * 3 * dim + k] * right[column * 3 * dim + k];
            }
            products[row * columns + column] = sum;
        }
    }
}

// As ../assign.rs: what is found, and how many features had to be searched for.
static u32 assign(const Floats& features, const Floats& centres, u32 dim, const Nearest& right) {
    u32 m = features.size() / dim, n = centres.size() / dim;
    Split of_centres(centres.data(), n, dim, true);
    float greatest = *std::max_element(of_centres.squares.begin(), of_centres.squares.end());
    float tolerance = std::ldexp(1.0f, -15) + std::ldexp((float)(6 * dim), -23);
    Floats products(std::min(ROWS, m) * std::min(COLUMNS, n));
    // What lies here before the first scan must not count.
    std::vector<Candidates> best(std::min(ROWS, m), {{-1e38f, -1e38f, -1e38f, -1e38f}, {0, 0, 0, 0}});
    Nearest found = {std::vector<u32>(m, NONE), Floats(m, NAN)};
    std::vector<u32> unsure(m, NONE);
    for (u32 from = 0; from < m; from += ROWS) {
        u32 rows = std::min(ROWS, m - from);
        const float* block = &features[from * dim];
        Split split(block, rows, dim, false);
        // Of each feature, and as many of no centre as there are candidates.
        std::vector<Floats> values(rows, Floats(BEST, INFINITY));
        for (u32 first = 0; first < n; first += COLUMNS) {
            u32 columns = std::min(COLUMNS, n - first);
            multiply(split, of_centres, rows, first, columns, dim, products);
            gpu::launch({rows}, THREADS, assign_scan, products.data(), of_centres.squares.data(), best.data(), columns, first,
                        (u32)(first == 0));
            for (u32 i = 0; i < rows * columns; i++) {
                float value = of_centres.squares[first + i % columns] - 2.0f * products[i];
                values[i / columns].push_back(value < INFINITY ? value : INFINITY);
            }
        }
        for (u32 row = 0; row < rows; row++) {
            std::sort(values[row].begin(), values[row].end());
            expect("a list of candidates", std::equal(best[row].value, best[row].value + BEST, values[row].begin()));
        }
        gpu::launch({(rows + THREADS - 1) / THREADS}, THREADS, assign_settle, block, centres.data(), best.data(), split.squares.data(),
                    &greatest, &found.ids[from], &found.distances[from], &unsure[from], rows, dim, tolerance);
    }

    std::vector<u32> again;
    Floats of_again;
    for (u32 row = 0; row < m; row++) {
        expect("what says whether a feature is unsure", unsure[row] <= 1);
        if (unsure[row]) {
            again.push_back(row);
            of_again.insert(of_again.end(), &features[row * dim], &features[row * dim] + dim);
        } else {
            expect("a feature that is called sure", same(right, found, row));
        }
    }
    u32 count = again.size();
    if (count > 0) {
        Nearest full = search(centres, of_again, dim);
        gpu::launch({(count + THREADS - 1) / THREADS}, THREADS, assign_scatter, again.data(), full.ids.data(), full.distances.data(),
                    found.ids.data(), found.distances.data(), count);
    }
    expect_same(right, found);
    return count;
}

// At least `least` and at most `most` of the features have to be searched for.
static void check(const char* what, const Floats& features, const Floats& centres, u32 dim, double least, double most) {
    u32 m = features.size() / dim;
    u32 count = assign(features, centres, dim, defined(centres, features, dim));
    std::printf("  %s: %u of %u searched for\n", what, count, m);
    expect("how many are searched for", least * m <= count && count <= most * m);
}

// Features of numbers whose two parts lose the most, each with a centre just like it, which the products show further than four others
// that are not: one at 64, three at 178 (2^-23 of the sum of the squares), which they show at 128 and 242, and the nearest at 254.
static void check_lossy() {
    u32 m = 20, dim = 40;
    float worst = __uint_as_float(0x3f808040);
    bf16 high;
    put(high, worst);
    Floats features = numbers(m * dim, 1.0f, 7), centres;
    for (float& number : features) {
        number = std::copysign(worst, number);
    }
    for (u32 row = 0; row < m; row++) {
        for (u32 other = 0; other < 4; other++) {
            for (u32 d = 0; d < dim; d++) {
                float further = other > 0 && d / 9 == other ? 1.0f / 128.0f : 0.0f;
                centres.push_back(std::copysign(to_float(high) + further, features[row * dim + d]));
            }
        }
        centres.insert(centres.end(), &features[row * dim], &features[row * dim] + dim);
    }
    check("parts that lose much", features, centres, dim, 1.0, 1.0);
}

int main() {
    u32 n = 150, m = 50, dim = 40;
    std::printf("%u features, %u centres, dim %u\n", m, n, dim);
    Floats features = numbers(m * dim, 1.0f, 1), centres = numbers(n * dim, 1.0f, 2);
    Split(centres.data(), n, dim, true).expect_of(centres.data(), dim, true);
    Split(features.data(), m, dim, false).expect_of(features.data(), dim, false);
    check("ordinary", features, centres, dim, 0.0, 0.02);
    check("large", numbers(m * dim, 1e15f, 1), numbers(n * dim, 1e15f, 2), dim, 0.0, 0.02);
    check("small", numbers(m * dim, 1e-15f, 1), numbers(n * dim, 1e-15f, 2), dim, 0.0, 0.02);

    // Where squares and products are no normal numbers, or 0: nothing is sure.
    for (float reach : {3e-21f, 1e-22f, 1e-30f}) {
        check("tiny", numbers(m * dim, reach, 1), numbers(n * dim, reach, 2), dim, 1.0, 1.0);
    }

    // From where rounding hides nothing to where it hides all.
    for (float reach : {1.0f, 0.1f, 0.03f, 0.001f}) {
        std::printf("within %g of 1\n", reach);
        Floats near = numbers(m * dim, reach, 3, 1.0f), around = numbers(n * dim, reach, 4, 1.0f);
        check("close to each other", near, around, dim, reach > 0.001f ? 0.0 : 0.9, reach < 1.0f ? 1.0 : 0.02);
    }

    // Each centre is there `times` times; every other feature lies on one.
    for (u32 times : {2, 4}) {
        std::printf("each centre %u times\n", times);
        Floats repeated = centres, on_centres = features;
        for (u32 i = 0; i < n * dim; i++) {
            repeated[i] = centres[(i / dim) % (n / times) * dim + i % dim];
        }
        for (u32 i = 0; i < m * dim; i++) {
            on_centres[i] = i / dim % 2 == 0 ? repeated[(i / dim * 7 + 3) % n * dim + i % dim] : features[i];
        }
        check("as near", on_centres, repeated, dim, times < 4 ? 0.0 : 1.0, times < 4 ? 0.02 : 1.0);
    }

    std::printf("extremes\n");
    Floats one_far = centres, one_feature_far = features;
    one_far[5 * dim] = 1e30f;
    one_feature_far[5 * dim] = 3e38f;
    check("a centre overflows", features, one_far, dim, 1.0, 1.0);
    check("a feature overflows", one_feature_far, centres, dim, 1.0 / m, 0.02);
    check("all overflow", numbers(m * dim, 3e38f, 1), numbers(n * dim, 3e38f, 2), dim, 1.0, 1.0);
    check("all alike", Floats(m * dim, 1.0f), Floats(n * dim, 1.0f), dim, 1.0, 1.0);
    check("all 0", Floats(m * dim, 0.0f), Floats(n * dim, 0.0f), dim, 1.0, 1.0);

    check_lossy();

    std::printf("other sizes\n");
    check("one product", numbers(ROWS * 33, 1.0f, 5), numbers(COLUMNS * 33, 1.0f, 6), 33, 0.0, 0.05);
    check("a centre more", numbers(2 * 33, 1.0f, 5), numbers((COLUMNS + 1) * 33, 1.0f, 6), 33, 0.0, 0.0);
    check("a long row", numbers(20 * 200, 1.0f, 5), numbers(50 * 200, 1.0f, 6), 200, 0.0, 0.05);
    check("few centres", numbers(20 * 40, 1.0f, 5), numbers(3 * 40, 1.0f, 6), 40, 0.0, 0.0);
}
