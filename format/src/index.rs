//! The index: one entry a block, read from the file's bytes as needed.

use crate::error::{Error, Place, Result};
use crate::header::equal;
use crate::layout::{Invalid, Layout};
use crate::limits::MAX_BLOCK;
use crate::records::{self, BLOCKS, BlockHeader, CODEC_RAW, Header, INDEX, IndexEntry};

/// Entry `number` of the index whose bytes are `index`.
pub(crate) fn entry(index: &[u8], number: u64) -> Result<IndexEntry> {
    let start = (number as usize).saturating_mul(IndexEntry::LEN);
    let bytes = index
        .get(start..start.saturating_add(IndexEntry::LEN))
        .unwrap_or(&[]);
    records::decode(bytes).map_err(|found| Error::Decode {
        place: Place::Index,
        offset: start as u64,
        expected: "an index entry",
        found,
    })
}

/// The block of a record: the last one whose first record is not behind it.
pub(crate) fn find(index: &[u8], blocks: u64, record: u64) -> Result<u64> {
    let (mut low, mut high) = (0, blocks);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if entry(index, middle)?.first_record <= record {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Checks that the blocks follow each other without holes or overlap and hold all records, each block as many as it must.
pub(crate) fn check(header: &Header, layout: &Layout, index: &[u8]) -> Result<()> {
    let section = |kind| {
        header
            .section(kind)
            .map_or((0, 0), |found| (found.offset, found.end()))
    };
    let (mut offset, end) = section(BLOCKS);
    let index_offset = section(INDEX).0;
    let mut first_record = 0;
    for number in 0..header.blocks {
        let found = entry(index, number)?;
        if found.codec != CODEC_RAW {
            return Err(Error::UnsupportedCodec {
                block: number,
                offset: found.offset,
                codec: found.codec,
            });
        }
        check_entry(header, layout, &found, offset, first_record)
            .map_err(|e| e.damage(Place::Index, index_offset + number * IndexEntry::LEN as u64))?;
        first_record += u64::from(found.records);
        offset += found.length;
    }
    equal("records of all blocks", header.records, first_record)
        .and_then(|()| equal("end of the last block", end, offset))
        .map_err(|e| e.damage(Place::Index, index_offset))
}

fn check_entry(
    header: &Header,
    layout: &Layout,
    entry: &IndexEntry,
    offset: u64,
    first_record: u64,
) -> Result<(), Invalid> {
    equal("offset", offset, entry.offset)?;
    equal("first_record", first_record, entry.first_record)?;
    equal("reserved", 0, entry.reserved.into())?;
    let full = header.records_per_block;
    if entry.records == 0 || entry.records > full || !entry.records.is_multiple_of(layout.views) {
        let expected = format!(
            "whole pictures of {} views, at most {full} records",
            layout.views
        );
        return Err(Invalid::new("records", expected, entry.records));
    }
    let least = BlockHeader::LEN as u64;
    match layout.fixed() {
        Some(fixed) => {
            let rest = header.records.saturating_sub(first_record);
            equal("records", rest.min(full.into()), entry.records.into())?;
            equal("length", fixed.block_length(entry.records), entry.length)
        }
        None if (least..=MAX_BLOCK).contains(&entry.length) => Ok(()),
        None => {
            let expected = format!("{least} to {MAX_BLOCK}");
            Err(Invalid::new("length", expected, entry.length))
        }
    }
}
