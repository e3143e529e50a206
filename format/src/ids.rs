//! Which ids occur, and walking through packed records.

use crate::pack::{max_id, padding_is_zero, unpack};

/// Ids of one page: 8 KiB.
const PAGE: usize = 1 << 16;

/// A set of ids below K that takes memory only where there are ids.
#[derive(Default)]
pub(crate) struct IdSet {
    pages: Vec<Option<Box<[u64; PAGE / 64]>>>,
    len: u32,
}

impl IdSet {
    pub(crate) fn insert_all(&mut self, ids: &[u32]) {
        for &id in ids {
            let (page, bit) = (id as usize / PAGE, id as usize % PAGE);
            if page >= self.pages.len() {
                self.pages.resize_with(page + 1, || None);
            }
            let words = self.pages[page].get_or_insert_with(|| Box::new([0; PAGE / 64]));
            let mask = 1 << (bit % 64);
            self.len += u32::from(words[bit / 64] & mask == 0);
            words[bit / 64] |= mask;
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }
}

/// What is wrong with a packed record.
pub(crate) enum RecordFault {
    /// A padding bit is set.
    Padding,
    /// An id is not below K; the greatest one.
    Id(u32),
}

/// Checks the `ids` ids that `bytes` hold, and hands them on to `seen`.
pub(crate) fn check_record(
    bytes: &[u8],
    ids: usize,
    codebook_size: u32,
    bits: u32,
    mut seen: Option<&mut IdSet>,
) -> Result<(), RecordFault> {
    if !padding_is_zero(bytes, ids, bits) {
        return Err(RecordFault::Padding);
    }
    if seen.is_none() && u64::from(codebook_size) == 1 << bits {
        return Ok(());
    }
    // A multiple of 8 ids, so that each piece starts on a byte.
    const PIECE: usize = 2048;
    let mut buffer = [0; PIECE];
    let pieces = bytes.chunks(PIECE / 8 * bits as usize);
    for (piece, start) in pieces.zip((0..ids).step_by(PIECE)) {
        let out = &mut buffer[..PIECE.min(ids - start)];
        unpack(piece, bits, out);
        if let Some(max) = max_id(out).filter(|&max| max >= codebook_size) {
            return Err(RecordFault::Id(max));
        }
        if let Some(seen) = &mut seen {
            seen.insert_all(out);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_counts_each_id_once() {
        let mut set = IdSet::default();
        set.insert_all(&[5, 5, 0, u32::MAX, 65_535, 65_536, u32::MAX]);
        set.insert_all(&[0, 7]);
        assert_eq!(set.len(), 6);
    }
}
