//! Sixteen f32 side by side: the few operations that fast code is written with, one implementation for each kernel.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

/// Numbers side by side in one vector.
pub(crate) const LANES: usize = 16;

/// Sixteen numbers in memory, one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Row(pub(crate) [f32; LANES]);

/// The operations on sixteen lanes. A value of an implementing type is the proof that this processor has its instructions.
pub(crate) trait Lanes: Copy + Send + Sync {
    /// Sixteen f32 in registers.
    type V: Copy;
    /// Whether there are registers for sixteen sums and what goes into them, or only for half as many.
    const MANY_REGISTERS: bool;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, row: &Row) -> Self::V;
    /// As `load`, from any place.
    fn load_from(self, values: &[f32; LANES]) -> Self::V;
    fn store(self, v: Self::V) -> Row;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// The lesser of two numbers; either of them when they are unordered.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The greater of two numbers; either of them when they are unordered.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + sum`, rounded once.
    fn mul_add(self, a: Self::V, b: Self::V, sum: Self::V) -> Self::V;
    /// `a * a + sum`, rounded once.
    fn add_square(self, a: Self::V, sum: Self::V) -> Self::V;
    /// Bit `i` is set unless lane `i` of `a` is greater than that of `b`: set also when they are unordered.
    fn not_greater(self, a: Self::V, b: Self::V) -> u32;

    /// The first lane of each, then the second of each, and so on: sixteen quadruples side by side.
    #[inline(always)]
    fn quadruples(self, of: [Self::V; 4]) -> [Row; 4] {
        let [a, b, c, d] = of.map(
            #[inline(always)]
            |v| self.store(v).0,
        );
        let mut rows = [Row([0.0; LANES]); 4];
        for (r, row) in rows.iter_mut().enumerate() {
            for (i, quadruple) in row.0.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let lane = 4 * r + i;
                *quadruple = [a[lane], b[lane], c[lane], d[lane]];
            }
        }
        rows
    }

    /// Runs `job` compiled for this kernel's instructions.
    fn run<J: Job>(self, job: J) -> J::Output;
}

/// Work to be compiled once for each kernel. `run` must be `#[inline(always)]` down to the lane operations, or they become calls.
pub(crate) trait Job {
    type Output;

    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// The instructions an operation is done with. All give the same results to the bit; the best is chosen when an operation is
/// prepared, another one forced only by tests and self-tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// `f32::mul_add`, on any processor.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F.
    Avx512,
}

impl Kernel {
    /// The kernels this processor runs, the fastest last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut kernels = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            kernels.extend(avx2::Avx2::detect().map(|_| Self::Avx2));
            kernels.extend(avx512::Avx512::detect().map(|_| Self::Avx512));
        }
        kernels
    }
}

/// A kernel that this processor is known to run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proven {
    Scalar(scalar::Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
}

impl Proven {
    pub(crate) fn new(kernel: Kernel) -> Option<Self> {
        match kernel {
            Kernel::Scalar => Some(Self::Scalar(scalar::Scalar)),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => avx2::Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => avx512::Avx512::detect().map(Self::Avx512),
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 | Kernel::Avx512 => None,
        }
    }

    pub(crate) fn best() -> Self {
        Kernel::available()
            .into_iter()
            .rev()
            .find_map(Self::new)
            .unwrap_or(Self::Scalar(scalar::Scalar))
    }

    pub(crate) fn run<J: Job>(self, job: J) -> J::Output {
        match self {
            Self::Scalar(lanes) => lanes.run(job),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(lanes) => lanes.run(job),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(lanes) => lanes.run(job),
        }
    }
}
