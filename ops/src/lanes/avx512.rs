//! Lanes as one AVX-512 register.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Job, LANES, Lanes, Row};

/// Proof that this processor has AVX-512 F: [`Avx512::detect`] is the only way to one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && super::avx2::bits()).then_some(Self(()))
    }
}

impl Lanes for Avx512 {
    type V = __m512;
    const MANY_REGISTERS: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: self proves AVX-512 F.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, row: &Row) -> Self::V {
        // SAFETY: self proves AVX-512 F; a row is 16 f32 on a 64-byte boundary.
        unsafe { _mm512_load_ps(row.0.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: Self::V) -> Row {
        let mut row = Row([0.0; 16]);
        // SAFETY: self proves AVX-512 F; a row is 16 f32 on a 64-byte boundary.
        unsafe { _mm512_store_ps(row.0.as_mut_ptr(), v) };
        row
    }

    #[inline(always)]
    fn load_from(self, values: &[f32; LANES]) -> Self::V {
        // SAFETY: self proves AVX-512 F; there are 16 f32.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, sum: Self::V) -> Self::V {
        // SAFETY: self proves AVX-512 F.
        unsafe { _mm512_fmadd_ps(a, b, sum) }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: self proves AVX-512 F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: self proves AVX-512 F.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: self proves AVX-512 F.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: self proves AVX-512 F.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn add_square(self, a: Self::V, sum: Self::V) -> Self::V {
        // SAFETY: self proves AVX-512 F.
        unsafe { _mm512_fmadd_ps(a, a, sum) }
    }

    #[inline(always)]
    fn not_greater(self, a: Self::V, b: Self::V) -> u32 {
        // SAFETY: self proves AVX-512 F.
        u32::from(unsafe { _mm512_cmp_ps_mask::<_CMP_NGT_UQ>(a, b) })
    }

    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        #[target_feature(enable = "avx512f,bmi1,popcnt")]
        fn run<J: Job>(lanes: Avx512, job: J) -> J::Output {
            job.run(lanes)
        }
        // SAFETY: self proves AVX-512 F.
        unsafe { run(self, job) }
    }
}
