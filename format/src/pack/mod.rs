//! Bit packing of token ids: least significant bit first, one id after the other without gaps.
//!
//! Id number `i` of width `b` takes the bits `i*b .. (i+1)*b` of the packed bytes, where bit `k` is bit `k % 8` of byte `k / 8`.
//! This is the bit order of Parquet's packed runs. Eight ids therefore fill exactly `b` bytes, and a record of 256 ids of
//! 17 bits is exactly 544 bytes. The bits after the last id, up to the next whole byte, are zero.
//!
//! [`pack()`] and [`unpack`] choose the fastest code for the machine at run time; [`scalar`] holds the plain versions they are
//! tested against. Nothing here reads or writes outside the slices it is given.

#[cfg(target_arch = "x86_64")]
mod avx2;
pub mod scalar;

/// Widest id in bits.
pub const MAX_BITS: u32 = 32;

/// Bits an id of a codebook with `codebook_size` entries takes: `max(1, ceil(log2 K))`, so 17 for 100,000.
pub const fn bits_for(codebook_size: u32) -> u32 {
    let bits = u32::BITS - codebook_size.saturating_sub(1).leading_zeros();
    if bits == 0 { 1 } else { bits }
}

/// Bytes that `ids` ids of `bits` bits take, or `None` when `bits` is not in `1..=32` or the answer does not fit a `usize`.
pub const fn packed_len(ids: usize, bits: u32) -> Option<usize> {
    if bits == 0 || bits > MAX_BITS {
        return None;
    }
    // Eight ids are `bits` bytes exactly; going through groups keeps the product from overflowing early.
    let Some(whole) = (ids / 8).checked_mul(bits as usize) else {
        return None;
    };
    whole.checked_add(((ids % 8) * bits as usize).div_ceil(8))
}

/// Packs `ids` into the first [`packed_len`]`(ids.len(), bits)` bytes of `out` and sets the padding bits to zero.
///
/// Ids must be below `2^bits`; higher bits of an id are cut off and never touch its neighbours.
///
/// # Panics
/// If `bits` is not in `1..=32` or `out` is too short, as slice indexing does.
pub fn pack(ids: &[u32], bits: u32, out: &mut [u8]) {
    scalar::pack(ids, bits, out);
}

/// Unpacks `out.len()` ids of `bits` bits from the start of `bytes`; bytes after the [`packed_len`] are ignored.
///
/// # Panics
/// If `bits` is not in `1..=32` or `bytes` is too short, as slice indexing does.
pub fn unpack(bytes: &[u8], bits: u32, out: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    if avx2::unpack(bytes, bits, out) {
        return;
    }
    scalar::unpack(bytes, bits, out);
}

/// Tells the machine that `bytes` will be unpacked soon, so that it fetches them while other work goes on.
///
/// Before unpacking one record of a scattered set, prefetch the next: that nearly doubles the records a second.
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    avx2::prefetch(bytes);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// The greatest id, or `None` if there are none: the quick way to see that every id is below the codebook size.
pub fn max_id(ids: &[u32]) -> Option<u32> {
    if ids.is_empty() {
        return None;
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(max) = avx2::max_id(ids) {
        return Some(max);
    }
    scalar::max_id(ids)
}

/// Whether the bits between the last of `ids` ids and the end of its byte are zero.
///
/// # Panics
/// If `bits` is not in `1..=32` or `bytes` is shorter than the [`packed_len`].
pub fn padding_is_zero(bytes: &[u8], ids: usize, bits: u32) -> bool {
    let len = checked_len(ids, bits, bytes.len());
    let used = (ids % 8 * bits as usize) % 8;
    used == 0 || bytes[len - 1] >> used == 0
}

/// The packed length, after refusing what the caller must not ask for.
fn checked_len(ids: usize, bits: u32, available: usize) -> usize {
    assert!(
        (1..=MAX_BITS).contains(&bits),
        "ids are 1 to 32 bits wide, not {bits}"
    );
    match packed_len(ids, bits) {
        Some(len) if len <= available => len,
        _ => panic!("{ids} ids of {bits} bits do not fit {available} bytes"),
    }
}
