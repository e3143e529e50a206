//! A block: header, packed records and, where the grid varies, the record table.

use crate::digest::Digest;
use crate::error::{Error, Place, Result};
use crate::ids::{IdSet, RecordFault, check_record};
use crate::layout::{Invalid, Layout};
use crate::limits::BLOCK_TARGET;
use crate::pack::pack;
use crate::records::{self, BLOCK_MAGIC, BlockHeader, CODEC_RAW, IndexEntry, RecordEntry};

/// Offset of the CRC in a block's header: its last field.
const CRC_AT: usize = BlockHeader::LEN - 4;

/// A block that is being filled.
pub(crate) struct BlockBuilder {
    /// The header's place (zero until the block is closed), then the records.
    bytes: Vec<u8>,
    records: u32,
    table: Vec<RecordEntry>,
}

impl BlockBuilder {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; BlockHeader::LEN],
            records: 0,
            table: Vec::new(),
        }
    }

    /// Empties the block and keeps its memory for the next one.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(BlockHeader::LEN, 0);
        self.records = 0;
        self.table.clear();
    }

    /// A block that was begun by an earlier run: the bytes with the header's place, and each record's entry where the grid varies.
    pub(crate) fn begun(bytes: Vec<u8>, records: u32, table: Vec<RecordEntry>) -> Self {
        Self {
            bytes,
            records,
            table,
        }
    }

    /// Puts the ids of all records into `seen`; false if they are not what this layout packs.
    pub(crate) fn see(&self, layout: &Layout, seen: &mut IdSet) -> bool {
        let mut rest = &self.bytes[BlockHeader::LEN..];
        for record in 0..self.records as usize {
            let shape = match layout.fixed() {
                Some(fixed) => Some((fixed.rows, fixed.cols)),
                None => self.table.get(record).map(|entry| (entry.rows, entry.cols)),
            };
            let Some((rows, cols)) = shape else {
                return false;
            };
            let length = layout.record_length(rows, cols).unwrap_or(u64::MAX);
            let Some((packed, behind)) = rest.split_at_checked(length as usize) else {
                return false;
            };
            let ids = rows as usize * cols as usize;
            if check_record(packed, ids, layout.codebook_size, layout.bits, Some(seen)).is_err() {
                return false;
            }
            rest = behind;
        }
        rest.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// Whether a picture of `views` records of `length` bytes each must go to the next block. A picture is never divided.
    pub(crate) fn must_close_before(&self, layout: &Layout, length: u64) -> bool {
        let records = self.records.saturating_add(layout.views);
        let payload = self.bytes.len() as u64 + length * u64::from(layout.views);
        let fixed = layout.fixed().is_some();
        self.records > 0 && !fixed && payload + layout.table_length(records) > BLOCK_TARGET
    }

    /// Adds a record of `rows` x `cols` ids, which takes `length` bytes.
    pub(crate) fn push(&mut self, layout: &Layout, rows: u32, cols: u32, length: u64, ids: &[u32]) {
        let start = self.bytes.len();
        // A block stays far below usize::MAX: Layout checked the lengths.
        self.bytes.resize(start + length as usize, 0);
        pack(ids, layout.bits, &mut self.bytes[start..]);
        self.records += 1;
        if layout.fixed().is_none() {
            let offset = start as u64;
            self.table.push(RecordEntry { offset, rows, cols });
        }
    }

    /// Completes the block, which becomes number `number` at byte `offset` of the file, and says what the index says of it.
    pub(crate) fn close(
        &mut self,
        number: u64,
        first_record: u64,
        offset: u64,
    ) -> Result<IndexEntry> {
        let payload_length = (self.bytes.len() - BlockHeader::LEN) as u64;
        for entry in &self.table {
            self.bytes.extend(encode(entry, Place::Block(number))?);
        }
        let mut header = BlockHeader {
            magic: BLOCK_MAGIC,
            number,
            first_record,
            payload_length,
            records: self.records,
            codec: CODEC_RAW,
            reserved: 0,
            crc32: 0,
        };
        self.bytes[..BlockHeader::LEN].copy_from_slice(&encode(&header, Place::Block(number))?);
        header.crc32 = crc_of(&self.bytes);
        self.bytes[CRC_AT..BlockHeader::LEN].copy_from_slice(&header.crc32.to_le_bytes());
        Ok(IndexEntry {
            offset,
            length: self.bytes.len() as u64,
            first_record,
            records: self.records,
            codec: CODEC_RAW,
            crc32: header.crc32,
            reserved: 0,
            sha256: Digest::of(&self.bytes),
        })
    }
}

fn encode(record: &impl bincode::Encode, place: Place) -> Result<Vec<u8>> {
    records::encode(record).map_err(|found| Error::Decode {
        place,
        offset: 0,
        expected: "a record within its limit",
        found,
    })
}

/// The CRC of a block: of all its bytes but the CRC itself.
fn crc_of(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..CRC_AT]);
    hasher.update(&block[BlockHeader::LEN..]);
    hasher.finalize()
}

/// The header of the block at byte `offset`, if `bytes` are long enough for one.
pub(crate) fn header_of(bytes: &[u8], number: u64, offset: u64) -> Result<BlockHeader> {
    let place = Place::Block(number);
    let found = bytes.len() as u64;
    let head = bytes.get(..BlockHeader::LEN).ok_or(Error::Length {
        expected: BlockHeader::LEN as u64,
        found,
    })?;
    records::decode(head).map_err(|found| Error::Decode {
        place,
        offset,
        expected: "a block header",
        found,
    })
}

/// Checks everything about the block that its own bytes tell: CRC, header, record table, padding bits and that every id
/// is below K. `bytes` are the whole block, `offset` is where it starts in the file.
pub(crate) fn verify(
    layout: &Layout,
    bytes: &[u8],
    number: u64,
    offset: u64,
    seen: Option<&mut IdSet>,
) -> Result<BlockHeader> {
    let place = Place::Block(number);
    let header = header_of(bytes, number, offset)?;
    let crc = crc_of(bytes);
    if crc != header.crc32 {
        return Err(Error::Checksum {
            place,
            offset,
            expected: header.crc32,
            found: crc,
        });
    }
    if header.magic != BLOCK_MAGIC {
        return Err(Error::Magic {
            place,
            offset,
            expected: BLOCK_MAGIC,
            found: header.magic,
        });
    }
    let wrong = |field, expected: u64, found: u64| {
        Err(Invalid::new(field, expected.to_string(), found).damage(place, offset))
    };
    if header.number != number {
        return wrong("number", number, header.number);
    }
    if header.reserved != 0 {
        return wrong("reserved", 0, header.reserved.into());
    }
    if header.codec != CODEC_RAW {
        return Err(Error::UnsupportedCodec {
            block: number,
            offset,
            codec: header.codec,
        });
    }
    let around = BlockHeader::LEN as u64 + layout.table_length(header.records);
    let payload = (bytes.len() as u64).saturating_sub(around);
    if header.payload_length != payload {
        return wrong("payload_length", payload, header.payload_length);
    }
    check_records(layout, bytes, &header, offset, seen)?;
    Ok(header)
}

/// Checks the record table, padding bits and ids of a block whose CRC is right.
fn check_records(
    layout: &Layout,
    bytes: &[u8],
    header: &BlockHeader,
    offset: u64,
    mut seen: Option<&mut IdSet>,
) -> Result<()> {
    let place = Place::Block(header.number);
    let damage = |invalid: Invalid| invalid.damage(place, offset);
    let mut at = BlockHeader::LEN as u64;
    let mut shape = (0, 0);
    for record in 0..header.records {
        let (rows, cols, length) = match layout.fixed() {
            Some(fixed) => (fixed.rows, fixed.cols, fixed.stride),
            None => {
                let entry = table_entry(bytes, header, record, offset)?;
                if entry.offset != at {
                    let expected = at.to_string();
                    return Err(damage(Invalid::new("offset", expected, entry.offset)));
                }
                let length = layout
                    .record_length(entry.rows, entry.cols)
                    .map_err(damage)?;
                (entry.rows, entry.cols, length)
            }
        };
        if !record.is_multiple_of(layout.views) && shape != (rows, cols) {
            let expected = format!("{} x {}, as the view before it", shape.0, shape.1);
            return Err(damage(Invalid::new(
                "grid",
                expected,
                format!("{rows} x {cols}"),
            )));
        }
        shape = (rows, cols);
        let end = at + length;
        let payload_end = BlockHeader::LEN as u64 + header.payload_length;
        let packed = match bytes.get(at as usize..end as usize) {
            Some(packed) if end <= payload_end => packed,
            _ => {
                let expected = format!("at least {end} bytes before the record table");
                return Err(damage(Invalid::new(
                    "payload_length",
                    expected,
                    payload_end,
                )));
            }
        };
        let ids = rows as usize * cols as usize;
        let seen = seen.as_deref_mut();
        check_record(packed, ids, layout.codebook_size, layout.bits, seen).map_err(|fault| {
            let record = header.first_record.saturating_add(record.into());
            match fault {
                RecordFault::Padding => damage(Invalid::new(
                    "padding bits",
                    "zero",
                    format!("a bit set in record {record}"),
                )),
                RecordFault::Id(id) => Error::IdTooLarge {
                    block: header.number,
                    offset: offset.saturating_add(at),
                    record,
                    codebook_size: layout.codebook_size,
                    id,
                },
            }
        })?;
        at = end;
    }
    let payload = at - BlockHeader::LEN as u64;
    if header.payload_length != payload {
        let expected = payload.to_string();
        return Err(damage(Invalid::new(
            "payload_length",
            expected,
            header.payload_length,
        )));
    }
    Ok(())
}

/// Entry `record` (counted within the block) of the record table, which ends the block's bytes.
pub(crate) fn table_entry(
    bytes: &[u8],
    header: &BlockHeader,
    record: u32,
    offset: u64,
) -> Result<RecordEntry> {
    let behind = (header.records.saturating_sub(record)) as usize * RecordEntry::LEN;
    let entry = bytes
        .len()
        .checked_sub(behind)
        .and_then(|start| bytes.get(start..start + RecordEntry::LEN));
    let decoded = entry
        .ok_or_else(|| "the block is too short".to_owned())
        .and_then(records::decode);
    decoded.map_err(|found| Error::Decode {
        place: Place::Block(header.number),
        offset,
        expected: "a record table",
        found,
    })
}
