// What a warp computes together, on compute capability 8.0 and later. In a warp, thread `lane` holds, with g = lane / 4 and
// c = 2 (lane % 4): of 16 x 16 numbers the pairs [g][c], [g + 8][c], [g][c + 8], [g + 8][c + 8]; of 16 x 8 results [g][c], [g][c + 1],
// [g + 8][c], [g + 8][c + 1].

// Two numbers as bf16, rounded to nearest, the first in the lower half.
__device__ inline u32 pair(float first, float second) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}

// sum [16][8] += a [16][16] b [16][8]: of b, `upper` holds [c][g] and [c + 1][g], `lower` [c + 8][g] and [c + 9][g].
__device__ inline void multiply(float* sum, const u32* a, u32 upper, u32 lower) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(upper), "r"(lower));
}

// `upper` and `lower` of two b that lie side by side as 16 rows in shared memory: thread `lane` names row lane % 16 of the first
// (lane < 16) or the second. Rows are aligned to 16 bytes.
__device__ inline void turned(u32* b, const bf16* row) {
    u32 at = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
                 : "r"(at)
                 : "memory");
}

// The sum, or the greatest, of what the four threads of a row hold.
__device__ inline float row_sum(float mine) {
    mine += __shfl_xor_sync(0xffffffffu, mine, 1);
    return mine + __shfl_xor_sync(0xffffffffu, mine, 2);
}

__device__ inline float row_greatest(float mine) {
    mine = fmaxf(mine, __shfl_xor_sync(0xffffffffu, mine, 1));
    return fmaxf(mine, __shfl_xor_sync(0xffffffffu, mine, 2));
}
