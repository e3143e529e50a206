//! The tile instructions: products of bf16 matrices of 16 by 32 and 32 by 16 numbers, summed in f32.
#![allow(unsafe_code)]

use std::arch::{asm, x86_64::__cpuid_count};
use std::sync::OnceLock;

/// Rows of a tile; numbers of f32 of a row, or pairs of bf16.
pub(super) const SIDE: usize = 16;

/// A tile of bf16 pairs, or of f32 bits, one row a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Tile<T>(pub(super) [[T; SIDE]; SIDE]);

/// Proof that this process may use AMX tiles with bf16: [`Amx::detect`] is the only way to one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(());

/// All eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

static CONFIG: Config = {
    let mut config = [0; 64];
    config[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        config[16 + 2 * tile] = 64;
        config[48 + tile] = 16;
        tile += 1;
    }
    Config(config)
};

impl Amx {
    /// Asks the processor, and once the kernel, which saves tiles only for those that asked.
    pub(crate) fn detect() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        FOUND
            .get_or_init(|| instructions() && permission())
            .then_some(Self(()))
    }
}

fn instructions() -> bool {
    let vectors = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    if !vectors {
        return false;
    }
    // amx-bf16 and amx-tile.
    let needed = (1 << 22) | (1 << 24);
    #[allow(unused_unsafe, reason = "unsafe only in the older releases supported")]
    // SAFETY: a processor with AVX-512 has the instruction and its leaf 7.
    let features = unsafe { __cpuid_count(7, 0) }.edx;
    features & needed == needed
}

#[cfg(target_os = "linux")]
fn permission() -> bool {
    // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
    let mut rax: i64 = 158;
    // SAFETY: the system call takes two numbers and touches no memory of this process; rcx and r11 are the registers it changes.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") rax,
            in("rdi") 0x1023_u64,
            in("rsi") 18_u64,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    rax == 0
}

#[cfg(not(target_os = "linux"))]
fn permission() -> bool {
    false
}

/// Where the tiles of a sum of products lie in a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The first row of the first tile.
    pub(super) at: usize,
    /// From row to row.
    pub(super) stride: usize,
    /// From the first tile to the second.
    pub(super) next: usize,
}

impl Place {
    /// Whether both tiles lie in `count` numbers, and wherever they are moved by up to `farthest`.
    fn fits(self, farthest: usize, count: usize) -> bool {
        let last = (SIDE - 1).checked_mul(self.stride);
        let end = last
            .and_then(|last| last.checked_add(self.at))
            .and_then(|end| end.checked_add(self.next))
            .and_then(|end| end.checked_add(farthest))
            .and_then(|end| end.checked_add(SIDE));
        end.is_some_and(|end| end <= count)
    }
}

/// What [`Amx::convolve`] needs before and after its loop, in the order of the instructions.
#[repr(C)]
struct Around {
    config: *const Config,
    start: [*const Tile<f32>; 2],
    /// Bytes from row to row of a result.
    stride: usize,
    results: [*mut f32; 4],
}

/// Offsets in a slice of bf16 pairs, in bytes for the instructions.
#[derive(Clone, Debug)]
pub(super) struct Offsets {
    bytes: Vec<usize>,
    farthest: usize,
}

impl Offsets {
    pub(super) fn new(offsets: impl Iterator<Item = usize>) -> Self {
        let bytes: Vec<usize> = offsets.map(|offset| 4 * offset).collect();
        let farthest = bytes.iter().max().map_or(0, |bytes| bytes / 4);
        Self { bytes, farthest }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Amx {
    /// Writes `start[i] + sum over s of weights[i][s] * pixels at offsets[s]` for two tiles of weights `i` by two of pixels, to
    /// `output` at `to`, the second of the weights `to_second` behind the first. `weights[i]` is as long as `offsets`.
    #[expect(clippy::too_many_arguments, reason = "two tiles by two")]
    pub(super) fn convolve(
        self,
        weights: [&[Tile<u32>]; 2],
        start: [&Tile<f32>; 2],
        pixels: &[u32],
        offsets: &Offsets,
        from: Place,
        output: &mut [f32],
        to: Place,
        to_second: usize,
    ) {
        assert!(weights[0].len() == offsets.len() && weights[1].len() == offsets.len());
        assert!(offsets.len() > 0 && from.fits(offsets.farthest, pixels.len()));
        assert!(to.fits(to_second, output.len()));
        // What the instructions need before and after the loop; there are not enough registers for all.
        let result = output[to.at..].as_mut_ptr();
        let around = Around {
            config: &raw const CONFIG,
            start: start.map(|tile| &raw const *tile),
            stride: 4 * to.stride,
            results: [0, to.next, to_second, to_second + to.next].map(|at| result.wrapping_add(at)),
        };
        // SAFETY: self proves the instructions. The asserts above prove that each tile of weights is there, that 16 rows of 16 pairs
        // lie in `pixels` at every offset and that the four tiles of the result lie in `output`. Tiles are left released.
        unsafe {
            asm!(
                "mov {pixel}, [{around}]",
                "ldtilecfg [{pixel}]",
                "mov {pixel}, [{around} + 8]",
                "tileloadd tmm0, [{pixel} + {line}]",
                "tileloadd tmm1, [{pixel} + {line}]",
                "mov {pixel}, [{around} + 16]",
                "tileloadd tmm2, [{pixel} + {line}]",
                "tileloadd tmm3, [{pixel} + {line}]",
                "2:",
                "mov {pixel}, [{offset}]",
                "add {pixel}, {pixels}",
                "tileloadd tmm4, [{weight0} + {line}]",
                "tileloadd tmm6, [{pixel} + {stride}]",
                "add {pixel}, {next}",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{pixel} + {stride}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{weight1} + {line}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {weight0}, 1024",
                "add {weight1}, 1024",
                "add {offset}, 8",
                "cmp {offset}, {end}",
                "jne 2b",
                "mov {line}, [{around} + 24]",
                "mov {pixel}, [{around} + 32]",
                "tilestored [{pixel} + {line}], tmm0",
                "mov {pixel}, [{around} + 40]",
                "tilestored [{pixel} + {line}], tmm1",
                "mov {pixel}, [{around} + 48]",
                "tilestored [{pixel} + {line}], tmm2",
                "mov {pixel}, [{around} + 56]",
                "tilestored [{pixel} + {line}], tmm3",
                "tilerelease",
                around = in(reg) &raw const around,
                line = inout(reg) 64_usize => _,
                pixels = in(reg) pixels.as_ptr().add(from.at),
                stride = in(reg) 4 * from.stride,
                next = in(reg) 4 * from.next,
                weight0 = inout(reg) weights[0].as_ptr() => _,
                weight1 = inout(reg) weights[1].as_ptr() => _,
                offset = inout(reg) offsets.bytes.as_ptr() => _,
                end = in(reg) offsets.bytes.as_ptr_range().end,
                pixel = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// Adds to `sums[i][j]` the product of 16 rows of `rows` from `at[i]`, `stride` from row to row, of 32 numbers a step, with
    /// the tiles `columns[j]`, one a step.
    pub(super) fn correlate(
        self,
        rows: &[u16],
        at: [usize; 2],
        stride: usize,
        columns: [&[Tile<u32>]; 2],
        sums: &mut [[Tile<f32>; 2]; 2],
    ) {
        let steps = columns[0].len();
        assert!(steps > 0 && columns[1].len() == steps);
        let last = (SIDE - 1).checked_mul(stride);
        let last = last.and_then(|last| last.checked_add(2 * SIDE * steps));
        for at in at {
            let end = last.and_then(|last| last.checked_add(at));
            assert!(end.is_some_and(|end| end <= rows.len()));
        }
        // SAFETY: self proves the instructions. The asserts above prove that 16 rows of 32 numbers a step lie in `rows` from both
        // places, and both lists of tiles have `steps`; a sum is a whole tile. Tiles are left released.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "tileloadd tmm0, [{sums} + {line}]",
                "tileloadd tmm1, [{sums} + {line} + 1024]",
                "tileloadd tmm2, [{sums} + {line} + 2048]",
                "tileloadd tmm3, [{sums} + {line} + 3072]",
                "2:",
                "tileloadd tmm4, [{row0} + {stride}]",
                "tileloadd tmm6, [{column0} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{column1} + {line}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{row1} + {stride}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {row0}, 64",
                "add {row1}, 64",
                "add {column0}, 1024",
                "add {column1}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {line}], tmm0",
                "tilestored [{sums} + {line} + 1024], tmm1",
                "tilestored [{sums} + {line} + 2048], tmm2",
                "tilestored [{sums} + {line} + 3072], tmm3",
                "tilerelease",
                config = in(reg) &raw const CONFIG,
                sums = in(reg) sums.as_mut_ptr(),
                line = in(reg) 64_usize,
                row0 = inout(reg) rows.as_ptr().add(at[0]) => _,
                row1 = inout(reg) rows.as_ptr().add(at[1]) => _,
                stride = in(reg) 2 * stride,
                column0 = inout(reg) columns[0].as_ptr() => _,
                column1 = inout(reg) columns[1].as_ptr() => _,
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// Runs `work` compiled for AVX-512, where rounding vectorises. `work` must be `#[inline(always)]` down to its loops.
    #[inline]
    pub(super) fn vectorised<T>(self, work: impl FnOnce() -> T) -> T {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        fn run<T>(work: impl FnOnce() -> T) -> T {
            work()
        }
        // SAFETY: self proves these: `instructions` asks for them.
        unsafe { run(work) }
    }
}
