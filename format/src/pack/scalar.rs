//! Packing and unpacking without vector instructions: what the faster code must agree with, and the fallback.

use super::checked_len;

/// As [`super::pack()`].
pub fn pack(ids: &[u32], bits: u32, out: &mut [u8]) {
    let len = checked_len(ids.len(), bits, out.len());
    let (mut words, mask) = (out[..len].chunks_mut(4), id_mask(bits));
    // At most 31 bits wait in `pending` before an id of at most 32 is added, so 64 bits are enough.
    let (mut pending, mut filled) = (0u64, 0u32);
    for &id in ids {
        pending |= u64::from(id & mask) << filled;
        filled += bits;
        if filled >= 32
            && let Some(word) = words.next()
        {
            word.copy_from_slice(&pending.to_le_bytes()[..word.len()]);
            pending >>= 32;
            filled -= 32;
        }
    }
    if let Some(word) = words.next() {
        word.copy_from_slice(&pending.to_le_bytes()[..word.len()]);
    }
}

/// As [`super::unpack`].
pub fn unpack(bytes: &[u8], bits: u32, out: &mut [u32]) {
    let len = checked_len(out.len(), bits, bytes.len());
    let (mut words, mask) = (bytes[..len].chunks(4), id_mask(bits));
    let (mut pending, mut filled) = (0u64, 0u32);
    for id in out {
        if filled < bits
            && let Some(word) = words.next()
        {
            let mut bytes = [0; 4];
            bytes[..word.len()].copy_from_slice(word);
            pending |= u64::from(u32::from_le_bytes(bytes)) << filled;
            filled += 32;
        }
        *id = pending as u32 & mask;
        pending >>= bits;
        filled -= bits;
    }
}

/// As [`super::max_id`].
pub fn max_id(ids: &[u32]) -> Option<u32> {
    ids.iter().copied().max()
}

/// The `bits` low bits.
pub(super) fn id_mask(bits: u32) -> u32 {
    u32::MAX >> (32 - bits)
}
