//! Lanes as arrays, for any processor. `f32::mul_add` rounds once also where the hardware has no such instruction.

use super::{Job, LANES, Lanes, Row};

/// Lanes as plain arrays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

impl Lanes for Scalar {
    type V = [f32; LANES];
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, row: &Row) -> Self::V {
        row.0
    }

    #[inline(always)]
    fn store(self, v: Self::V) -> Row {
        Row(v)
    }

    #[inline(always)]
    fn load_from(self, values: &[f32; LANES]) -> Self::V {
        *values
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, sum: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i].mul_add(b[i], sum[i]))
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn add_square(self, a: Self::V, sum: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i].mul_add(a[i], sum[i]))
    }

    #[inline(always)]
    fn not_greater(self, a: Self::V, b: Self::V) -> u32 {
        let greater = (0..LANES).fold(0, |mask, i| mask | (u32::from(a[i] > b[i]) << i));
        !greater & 0xffff
    }

    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        job.run(self)
    }
}
