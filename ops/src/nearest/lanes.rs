//! Sixteen f32 side by side: the few operations a search is written with, one implementation for each kernel.

/// Numbers side by side in one vector.
pub(crate) const LANES: usize = 16;

/// Sixteen numbers in memory, one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Row(pub(crate) [f32; LANES]);

/// The operations on sixteen lanes. A value of an implementing type is the proof that this processor has its instructions.
pub(crate) trait Lanes: Copy + Send + Sync {
    /// Sixteen f32 in registers.
    type V: Copy;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, row: &Row) -> Self::V;
    fn store(self, v: Self::V) -> Row;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// The lesser of two numbers; either of them when they are unordered.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The greater of two numbers; either of them when they are unordered.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * a + sum`, rounded once.
    fn add_square(self, a: Self::V, sum: Self::V) -> Self::V;
    /// Bit `i` is set unless lane `i` of `a` is greater than that of `b`: set also when they are unordered.
    fn not_greater(self, a: Self::V, b: Self::V) -> u32;

    /// Runs `job` compiled for this kernel's instructions.
    fn run<J: Job>(self, job: J) -> J::Output;
}

/// Work to be compiled once for each kernel. `run` must be `#[inline(always)]` down to the lane operations, or they become calls.
pub(crate) trait Job {
    type Output;

    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}
