//! What of an unfinished file is good: its journal read against its bytes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::block::{self, BlockBuilder};
use crate::error::{Error, Result};
use crate::ids::IdSet;
use crate::journal::Entries;
use crate::layout::Layout;
use crate::limits::MAX_BLOCK;
use crate::records::{BlockHeader, IndexEntry, JournalEntry, RecordEntry};
use crate::spec::Spec;

/// How far an unfinished file is. What the journal says is believed only where the bytes of the partial file agree.
pub(crate) struct State {
    pub(crate) next_position: u64,
    pub(crate) pictures: u64,
    pub(crate) records: u64,
    pub(crate) blocks: u64,
    /// First byte of the block being filled.
    pub(crate) block_start: u64,
    pub(crate) block: BlockBuilder,
    pub(crate) seen: IdSet,
    /// Bytes of the journal that say this.
    pub(crate) journal_length: u64,
}

impl State {
    /// An empty file whose first block will start at byte `first_block`.
    pub(crate) fn new(first_block: u64) -> Self {
        Self {
            next_position: 0,
            pictures: 0,
            records: 0,
            blocks: 0,
            block_start: first_block,
            block: BlockBuilder::new(),
            seen: IdSet::default(),
            journal_length: 0,
        }
    }
}

/// Progress within the block being filled, which counts only once its bytes are seen to be good.
struct Open {
    next_position: u64,
    pictures: u64,
    length: u64,
    crc32: u32,
    table: Vec<RecordEntry>,
    journal_length: u64,
}

/// Reads `entries` and the partial file `file` as far as both are good.
pub(crate) fn replay(
    spec: &Spec,
    layout: &Layout,
    first_block: u64,
    file: &File,
    path: &Path,
    entries: &mut Entries,
) -> Result<State> {
    let mut state = State::new(first_block);
    state.journal_length = entries.end();
    let mut open: Option<Open> = None;
    while let Some(entry) = entries.next()? {
        let pictures = open.as_ref().map_or(0, |open| open.pictures);
        let begun = open
            .as_ref()
            .map_or(BlockHeader::LEN as u64, |open| open.length);
        let done = open
            .as_ref()
            .map_or(state.next_position, |open| open.next_position);
        if !is_consistent(spec, layout, &entry) || entry.next_position < done {
            break;
        }
        let pictures = pictures + u64::from(entry.pictures);
        if let Some(index) = entry.closed {
            if !close(&mut state, layout, file, path, &index, pictures)? {
                break;
            }
            state.next_position = entry.next_position;
            state.journal_length = entries.end();
            open = None;
        } else {
            let mut table = open.take().map_or_else(Vec::new, |open| open.table);
            let Some(length) = extend(layout, &mut table, begun, &entry) else {
                break;
            };
            open = Some(Open {
                next_position: entry.next_position,
                pictures,
                length,
                crc32: entry.open_crc32,
                table,
                journal_length: entries.end(),
            });
        }
    }
    if let Some(open) = open {
        resume_open(&mut state, layout, file, path, open)?;
    }
    Ok(state)
}

/// Whether an entry holds what the specification says.
fn is_consistent(spec: &Spec, layout: &Layout, entry: &JournalEntry) -> bool {
    let pictures = entry.pictures as usize;
    let expected = |kept: bool, each: usize| {
        if kept {
            pictures.saturating_mul(each)
        } else {
            0
        }
    };
    let varies = layout.fixed().is_none();
    entry.shapes.len() == expected(varies, layout.views as usize)
        && entry.labels.len() == expected(spec.classes.is_some(), 1)
        && entry.names.len() == expected(spec.names, 1)
        && entry.sizes.len() == expected(spec.sizes, 1)
}

/// Takes a block that the journal calls complete, if its bytes are as the journal says.
fn close(
    state: &mut State,
    layout: &Layout,
    file: &File,
    path: &Path,
    index: &IndexEntry,
    pictures: u64,
) -> Result<bool> {
    let records = pictures.saturating_mul(layout.views.into());
    let expected = (state.block_start, state.records, records);
    if (index.offset, index.first_record, index.records.into()) != expected {
        return Ok(false);
    }
    let Some(bytes) = read(file, path, index.offset, index.length)? else {
        return Ok(false);
    };
    let seen = Some(&mut state.seen);
    match block::verify(layout, &bytes, state.blocks, index.offset, seen) {
        Ok(header) if header.crc32 == index.crc32 && header.records == index.records => {}
        _ => return Ok(false),
    }
    state.pictures += pictures;
    state.records += records;
    state.blocks += 1;
    state.block_start += index.length;
    Ok(true)
}

/// Adds an entry's records to the table of the block being filled; its length with them, if the entry agrees.
fn extend(
    layout: &Layout,
    table: &mut Vec<RecordEntry>,
    begun: u64,
    entry: &JournalEntry,
) -> Option<u64> {
    let mut length = begun;
    match layout.fixed() {
        Some(fixed) => {
            let records = u64::from(entry.pictures) * u64::from(layout.views);
            length = length.checked_add(records.checked_mul(fixed.stride)?)?;
        }
        None => {
            for &(rows, cols) in &entry.shapes {
                let offset = length;
                table.push(RecordEntry { offset, rows, cols });
                length = length.checked_add(layout.record_length(rows, cols).ok()?)?;
            }
        }
    }
    (length == entry.open_length).then_some(length)
}

/// Takes up the block being filled, if its bytes are as the journal says; else it is begun anew.
fn resume_open(
    state: &mut State,
    layout: &Layout,
    file: &File,
    path: &Path,
    open: Open,
) -> Result<()> {
    let Some(mut bytes) = read(file, path, state.block_start, open.length)? else {
        return Ok(());
    };
    if crc32fast::hash(&bytes[BlockHeader::LEN..]) != open.crc32 {
        return Ok(());
    }
    bytes[..BlockHeader::LEN].fill(0);
    let Ok(records) = u32::try_from(open.pictures.saturating_mul(layout.views.into())) else {
        return Ok(());
    };
    let block = BlockBuilder::begun(bytes, records, open.table);
    if block.see(layout, &mut state.seen) {
        state.next_position = open.next_position;
        state.pictures += open.pictures;
        state.records += u64::from(records);
        state.journal_length = open.journal_length;
        state.block = block;
    }
    Ok(())
}

/// The `length` bytes at `offset`, if they are there and no more than a block.
fn read(mut file: &File, path: &Path, offset: u64, length: u64) -> Result<Option<Vec<u8>>> {
    let io = |error| Error::io("read", path)(error);
    let there = file.metadata().map_err(io)?.len();
    let end = offset.checked_add(length);
    if length < BlockHeader::LEN as u64 || length > MAX_BLOCK || end.is_none_or(|end| end > there) {
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize];
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    file.read_exact(&mut bytes).map_err(io)?;
    Ok(Some(bytes))
}
