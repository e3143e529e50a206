//! Unpacking eight ids at a time with AVX2.
//!
//! Eight ids of `b` bits are `b` bytes, so every group of eight starts on a byte. Ids 0 to 3 of a group lie within the 16 bytes
//! from its start, ids 4 to 7 within the 16 bytes from its byte `b / 2`. Each half goes to one 128-bit lane; a byte shuffle
//! brings to each 32-bit element the four bytes that hold the start of its id, a shift by element moves the id down to bit 0.
//! Up to 25 bits that is all of the id; wider ones may end in a fifth byte, which a second shuffle brings.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_and_si256,
    _mm256_loadu_si256, _mm256_or_si256, _mm256_set_m128i, _mm256_set1_epi32, _mm256_shuffle_epi8,
    _mm256_sllv_epi32, _mm256_srlv_epi32, _mm256_storeu_si256,
};

use super::MAX_BITS;
use super::scalar::id_mask;

/// Widest id that four bytes always hold, whatever bit of the first it starts at.
const MAX_NARROW: u32 = 25;

/// Where the ids of a group lie, for one width.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Plan {
    /// For each element, the bytes of its lane that hold the first 32 bits from the byte in which the id starts.
    bytes: [u8; 32],
    /// For each element, the bit of that byte at which the id starts.
    shift: [u32; 8],
    /// For each element, the fifth byte as its lowest byte; 0x80 gives zero.
    fifth: [u8; 32],
    /// `32 - shift`: where the fifth byte goes. A shift by 32 gives zero.
    fifth_shift: [u32; 8],
}

static PLANS: [Plan; MAX_BITS as usize + 1] = plans();

const fn plans() -> [Plan; MAX_BITS as usize + 1] {
    const NONE: u8 = 0x80;
    let mut plans = [Plan {
        bytes: [NONE; 32],
        shift: [0; 8],
        fifth: [NONE; 32],
        fifth_shift: [32; 8],
    }; MAX_BITS as usize + 1];
    let mut bits = 1;
    while bits <= MAX_BITS as usize {
        let mut id = 0;
        while id < 8 {
            let lane_start = if id < 4 { 0 } else { bits / 2 };
            let first = id * bits / 8 - lane_start;
            let mut byte = 0;
            while byte < 4 {
                if first + byte < 16 {
                    plans[bits].bytes[id * 4 + byte] = (first + byte) as u8;
                }
                byte += 1;
            }
            if first + 4 < 16 {
                plans[bits].fifth[id * 4] = (first + 4) as u8;
            }
            let shift = (id * bits % 8) as u32;
            plans[bits].shift[id] = shift;
            plans[bits].fifth_shift[id] = 32 - shift;
            id += 1;
        }
        bits += 1;
    }
    plans
}

/// Unpacks as [`super::unpack`] does and says so, or returns false where the machine has no AVX2.
pub(super) fn unpack(bytes: &[u8], bits: u32, out: &mut [u32]) -> bool {
    if !is_x86_feature_detected!("avx2") {
        return false;
    }
    super::checked_len(out.len(), bits, bytes.len());
    // SAFETY: AVX2 is there.
    unsafe {
        if bits <= MAX_NARROW {
            unpack_groups::<false>(bytes, bits, out);
        } else {
            unpack_groups::<true>(bytes, bits, out);
        }
    }
    true
}

/// The greatest id (0 if there are none), or `None` where the machine has no AVX2.
pub(super) fn max_id(ids: &[u32]) -> Option<u32> {
    #[target_feature(enable = "avx2")]
    fn max(ids: &[u32]) -> u32 {
        // Compiled for AVX2 the plain loop becomes `vpmaxud`, which the x86-64 baseline lacks.
        ids.iter().copied().fold(0, u32::max)
    }
    // SAFETY: AVX2 is there.
    is_x86_feature_detected!("avx2").then(|| unsafe { max(ids) })
}

/// As [`super::prefetch`].
pub(super) fn prefetch(bytes: &[u8]) {
    const CACHE_LINE: usize = 64;
    for line in bytes.chunks(CACHE_LINE) {
        // SAFETY: a prefetch is a hint that reads nothing; it needs SSE, which every x86-64 machine has.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

/// Unpacks `out.len()` ids; `bytes` must hold that many, `WIDE` must be set for more than [`MAX_NARROW`] bits.
#[target_feature(enable = "avx2")]
fn unpack_groups<const WIDE: bool>(bytes: &[u8], bits: u32, out: &mut [u32]) {
    let kernel = Kernel::<WIDE>::new(bits);
    let stride = bits as usize;
    // Groups whose 16-byte loads end within the slice.
    let direct = match bytes.len().checked_sub(kernel.reach) {
        Some(room) => (room / stride + 1).min(out.len() / 8),
        None => 0,
    };
    let (head, tail) = out.split_at_mut(direct * 8);
    let (head, _) = head.as_chunks_mut::<8>();
    for (group, ids) in head.iter_mut().enumerate() {
        // SAFETY: `group < direct`, so `group * stride + reach <= bytes.len()`.
        *ids = unsafe { kernel.group(bytes.as_ptr().add(group * stride)) };
    }

    // The rest is shorter than `reach <= 32` bytes or less than a group; from a copy with room behind it the same loads are safe.
    let rest = &bytes[direct * stride..];
    let rest = &rest[..rest.len().min(32)];
    let mut copy = [0u8; 64];
    copy[..rest.len()].copy_from_slice(rest);
    for (group, ids) in tail.chunks_mut(8).enumerate() {
        let start = group * stride;
        assert!(start + kernel.reach <= copy.len());
        // SAFETY: the line above.
        let unpacked = unsafe { kernel.group(copy.as_ptr().add(start)) };
        ids.copy_from_slice(&unpacked[..ids.len()]);
    }
}

/// The constants of a width, in registers.
struct Kernel<const WIDE: bool> {
    /// Byte of a group at which the second lane starts.
    half: usize,
    /// Bytes that must be readable from the start of a group.
    reach: usize,
    bytes: __m256i,
    shift: __m256i,
    fifth: __m256i,
    fifth_shift: __m256i,
    mask: __m256i,
}

impl<const WIDE: bool> Kernel<WIDE> {
    #[target_feature(enable = "avx2")]
    fn new(bits: u32) -> Self {
        let plan = &PLANS[bits as usize];
        let half = bits as usize / 2;
        // SAFETY: each of the four arrays is 32 bytes long.
        unsafe {
            Self {
                half,
                reach: half + 16,
                bytes: _mm256_loadu_si256(plan.bytes.as_ptr().cast()),
                shift: _mm256_loadu_si256(plan.shift.as_ptr().cast()),
                fifth: _mm256_loadu_si256(plan.fifth.as_ptr().cast()),
                fifth_shift: _mm256_loadu_si256(plan.fifth_shift.as_ptr().cast()),
                mask: _mm256_set1_epi32(id_mask(bits) as i32),
            }
        }
    }

    /// The eight ids of the group that starts at `start`.
    ///
    /// # Safety
    /// `self.reach` bytes must be readable from `start` on.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn group(&self, start: *const u8) -> [u32; 8] {
        // SAFETY: the loads end at bytes 16 and `half + 16 = reach` of the group.
        let (low, high) = unsafe {
            (
                _mm_loadu_si128(start.cast::<__m128i>()),
                _mm_loadu_si128(start.add(self.half).cast::<__m128i>()),
            )
        };
        let lanes = _mm256_set_m128i(high, low);
        let mut ids = _mm256_srlv_epi32(_mm256_shuffle_epi8(lanes, self.bytes), self.shift);
        if WIDE {
            let fifth = _mm256_shuffle_epi8(lanes, self.fifth);
            ids = _mm256_or_si256(ids, _mm256_sllv_epi32(fifth, self.fifth_shift));
        }
        let mut out = [0u32; 8];
        // SAFETY: `out` is 32 bytes long.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_and_si256(ids, self.mask)) };
        out
    }
}
