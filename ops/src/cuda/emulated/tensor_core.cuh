// The functions of ../tensor_core.cuh, from the definition of each instruction.

inline u32 pair(float first, float second) {
    bf16 low, high;
    put(low, first);
    put(high, second);
    return low.bits | (u32)high.bits << 16;
}

inline float half_of(u32 pair, u32 i) { return to_float(bf16{(unsigned short)(pair >> 16 * i)}); }

struct Factors {
    u32 a[4], b[2];
};

inline void multiply(float* sum, const u32* a, u32 upper, u32 lower) {
    const Factors* all = gpu::lay_open(Factors{{a[0], a[1], a[2], a[3]}, {upper, lower}});
    u32 lane = gpu::current % gpu::WARP;
    for (u32 i = 0; i < 4; i++) {
        u32 row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (u32 k = 0; k < 16; k++) {
            u32 pair_of_k = k % 8 / 2;
            const Factors& of_row = gpu::of_lane(all, row % 8 * 4 + pair_of_k);
            const Factors& of_column = gpu::of_lane(all, column * 4 + pair_of_k);
            sum[i] += half_of(of_row.a[row / 8 + k / 8 * 2], k % 2) * half_of(of_column.b[k / 8], k % 2);
        }
    }
    gpu::close();
}

inline void turned(u32* b, const bf16* row) {
    if ((u64)row % 16 != 0) {
        std::fprintf(stderr, "a row is not aligned\n");
        std::exit(1);
    }
    const bf16* const* all = gpu::lay_open(row);
    u32 lane = gpu::current % gpu::WARP;
    for (u32 matrix = 0; matrix < 4; matrix++) {
        u32 first = 8 * matrix + lane % 4 * 2;
        b[matrix] = gpu::of_lane(all, first)[lane / 4].bits | (u32)gpu::of_lane(all, first + 1)[lane / 4].bits << 16;
    }
    gpu::close();
}

inline float row_sum(float mine) {
    mine += __shfl_xor_sync(0, mine, 1);
    return mine + __shfl_xor_sync(0, mine, 2);
}

inline float row_greatest(float mine) {
    mine = fmaxf(mine, __shfl_xor_sync(0, mine, 1));
    return fmaxf(mine, __shfl_xor_sync(0, mine, 2));
}
