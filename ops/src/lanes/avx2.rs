//! Lanes as two AVX registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Job, LANES, Lanes, Row};

/// Proof that this processor has AVX2 and FMA: [`Avx2::detect`] is the only way to one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && bits())
            .then_some(Self(()))
    }
}

/// The instructions that go over the bits of a mask.
pub(super) fn bits() -> bool {
    is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("popcnt")
}

impl Lanes for Avx2 {
    type V = [__m256; 2];
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: self proves AVX.
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    fn load(self, row: &Row) -> Self::V {
        let at = row.0.as_ptr();
        // SAFETY: self proves AVX; a row is 16 f32 on a 64-byte boundary.
        unsafe { [_mm256_load_ps(at), _mm256_load_ps(at.add(8))] }
    }

    #[inline(always)]
    fn store(self, v: Self::V) -> Row {
        let mut row = Row([0.0; 16]);
        let at = row.0.as_mut_ptr();
        // SAFETY: self proves AVX; a row is 16 f32 on a 64-byte boundary.
        unsafe {
            _mm256_store_ps(at, v[0]);
            _mm256_store_ps(at.add(8), v[1]);
        }
        row
    }

    #[inline(always)]
    fn load_from(self, values: &[f32; LANES]) -> Self::V {
        let at = values.as_ptr();
        // SAFETY: self proves AVX; there are 16 f32.
        unsafe { [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))] }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, sum: Self::V) -> Self::V {
        // SAFETY: self proves FMA.
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], sum[0]),
                _mm256_fmadd_ps(a[1], b[1], sum[1]),
            ]
        }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: self proves AVX.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: self proves AVX.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: self proves AVX.
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: self proves AVX.
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn add_square(self, a: Self::V, sum: Self::V) -> Self::V {
        // SAFETY: self proves FMA.
        unsafe {
            [
                _mm256_fmadd_ps(a[0], a[0], sum[0]),
                _mm256_fmadd_ps(a[1], a[1], sum[1]),
            ]
        }
    }

    #[inline(always)]
    fn not_greater(self, a: Self::V, b: Self::V) -> u32 {
        // SAFETY: self proves AVX.
        let (low, high) = unsafe {
            (
                _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NGT_UQ>(a[0], b[0])),
                _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NGT_UQ>(a[1], b[1])),
            )
        };
        (low | (high << 8)).cast_unsigned()
    }

    #[inline(always)]
    fn quadruples(self, [a, b, c, d]: [Self::V; 4]) -> [Row; 4] {
        let mut rows = [Row([0.0; LANES]); 4];
        let (low, high) = rows.split_at_mut(2);
        for (half, rows) in [low, high].into_iter().enumerate() {
            let at = rows.as_mut_ptr().cast::<f32>();
            // SAFETY: self proves AVX; two rows are 32 f32 on a 64-byte boundary.
            unsafe {
                // Lanes 0 and 1, and 4 and 5, of a and b; of c and d; then lanes 2 and 3, and 6 and 7.
                let ab = _mm256_castps_pd(_mm256_unpacklo_ps(a[half], b[half]));
                let cd = _mm256_castps_pd(_mm256_unpacklo_ps(c[half], d[half]));
                let ab2 = _mm256_castps_pd(_mm256_unpackhi_ps(a[half], b[half]));
                let cd2 = _mm256_castps_pd(_mm256_unpackhi_ps(c[half], d[half]));
                let of_0_4 = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd));
                let of_1_5 = _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd));
                let of_2_6 = _mm256_castpd_ps(_mm256_unpacklo_pd(ab2, cd2));
                let of_3_7 = _mm256_castpd_ps(_mm256_unpackhi_pd(ab2, cd2));
                _mm256_store_ps(at, _mm256_permute2f128_ps::<0x20>(of_0_4, of_1_5));
                _mm256_store_ps(at.add(8), _mm256_permute2f128_ps::<0x20>(of_2_6, of_3_7));
                _mm256_store_ps(at.add(16), _mm256_permute2f128_ps::<0x31>(of_0_4, of_1_5));
                _mm256_store_ps(at.add(24), _mm256_permute2f128_ps::<0x31>(of_2_6, of_3_7));
            }
        }
        rows
    }

    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        #[target_feature(enable = "avx2,fma,bmi1,popcnt")]
        fn run<J: Job>(lanes: Avx2, job: J) -> J::Output {
            job.run(lanes)
        }
        // SAFETY: self proves AVX2 and FMA.
        unsafe { run(self, job) }
    }
}
