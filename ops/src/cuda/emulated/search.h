// A full search, launched as ../nearest.rs does, its definition, and what the checks that must hold to the bit share.
#pragma once

struct Nearest {
    std::vector<u32> ids;
    std::vector<float> distances;
};

// With what ../nearest.rs calls its plan; `most_parts` instead of parts enough for 4096 blocks gives longer parts.
inline Nearest search(const std::vector<float>& table, const std::vector<float>& queries, u32 dim, u32 most_parts = 4096) {
    u32 n = table.size() / dim, m = queries.size() / dim;
    u32 each = dim == 4 ? 8 : dim == 8 ? 4 : dim == 16 ? 2 : 1, tile = each > 1 ? TILE : GROUP;
    u32 blocks = (m + each * THREADS - 1) / (each * THREADS);
    u32 parts = (4096 + blocks - 1) / blocks;
    parts = most_parts < parts ? most_parts : parts;
    u32 part = ((n + parts - 1) / parts + tile - 1) / tile * tile;
    parts = (n + part - 1) / part;

    std::vector<u64> best((u64)m * parts, NO_ENTRY);
    dim3 grid = {blocks, parts};
    if (each > 1) {
        auto kernel = dim == 4 ? nearest_4 : dim == 8 ? nearest_8 : nearest_16;
        gpu::launch(grid, THREADS, kernel, table.data(), queries.data(), best.data(), n, m, part);
    } else {
        gpu::launch(grid, THREADS, nearest_any, table.data(), queries.data(), best.data(), n, m, part, dim);
    }
    Nearest found = {std::vector<u32>(m, 123456789), std::vector<float>(m, NAN)};
    gpu::launch({(m + THREADS - 1) / THREADS}, THREADS, nearest_join, best.data(), found.ids.data(), found.distances.data(), m, parts);
    return found;
}

// The lowest id of those with the least float sum over ascending d, each step one fused multiply-add; 0 where all overflow.
inline Nearest defined(const std::vector<float>& table, const std::vector<float>& queries, u32 dim) {
    Nearest right;
    for (const float* query = queries.data(); query != queries.data() + queries.size(); query += dim) {
        u32 id = 0;
        float least = INFINITY;
        for (u32 entry = 0; entry < table.size() / dim; entry++) {
            float sum = 0.0f;
            for (u32 d = 0; d < dim; d++) {
                float apart = query[d] - table[entry * dim + d];
                sum = std::fma(apart, apart, sum);
            }
            if (sum < least) {
                least = sum;
                id = entry;
            }
        }
        right.ids.push_back(id);
        right.distances.push_back(least);
    }
    return right;
}

inline void expect(const char* what, bool ok) {
    if (!ok) {
        std::fprintf(stderr, "%s is wrong\n", what);
        std::exit(1);
    }
}

inline bool same(const Nearest& right, const Nearest& found, u32 row) {
    u32 bits = __float_as_uint(right.distances[row]);
    return right.ids[row] == found.ids[row] && bits == __float_as_uint(found.distances[row]);
}

// Ends the program where an id or a bit of a distance is another.
inline void expect_same(const Nearest& right, const Nearest& found) {
    expect("the number of results", right.ids.size() == found.ids.size() && !right.ids.empty());
    for (u32 row = 0; row < right.ids.size(); row++) {
        if (!same(right, found, row)) {
            std::fprintf(stderr, "query %u: entry %u at %.9g is nearest, not %u at %.9g\n", row, right.ids[row], right.distances[row],
                         found.ids[row], found.distances[row]);
            std::exit(1);
        }
    }
}
