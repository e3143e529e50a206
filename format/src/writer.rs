//! Writing a token file: records are packed into blocks, blocks go to `NAME.partial`, and the journal says which are good.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::layout::{Fixed, Layout};
use crate::limits::{MAX_BLOCKS, MAX_TEXT};
use crate::output::{exists, lock, refuse_existing, refuse_in_the_way, remove_unfinished};
use crate::pack::max_id;
use crate::paths::{journal_path, partial_path, remove_if_there};
use crate::records::{BlockHeader, Header, JournalEntry, JournalHeader, NO_LABEL};
use crate::replay::State;
use crate::seal::seal;
use crate::sections::{Front, check_spec};
use crate::spec::{Picture, Spec, Summary};

/// A killed job loses the pictures of at most about this long, or those since the last [`Writer::flush`].
const CHECKPOINT: Duration = Duration::from_secs(1);
/// Bytes of shapes, labels, names and sizes after which a journal entry is written.
const SIDE_BYTES: usize = 1 << 20;

/// Writes a token file as its pictures come, in memory that does not grow with their number.
///
/// Records go to `NAME.vqt.partial`; a journal beside it says what of it is good, so that a job killed at any moment is
/// continued by [`Writer::resume`] and ends in the same bytes. [`Writer::finish`] completes, syncs and renames the file;
/// until then its header is zero, and it is not a valid token file. The partial file is locked while a writer has it.
pub struct Writer {
    pub(crate) path: PathBuf,
    pub(crate) partial: PathBuf,
    pub(crate) file: File,
    pub(crate) journal: Journal,
    pub(crate) spec: Spec,
    pub(crate) layout: Layout,
    pub(crate) front: Front,
    pub(crate) state: State,
    fixed: Option<Fixed>,
    overwrite: bool,
    /// What the next journal entry will say.
    side: JournalEntry,
    side_bytes: usize,
    /// Bytes of the open block that are in the file.
    written: usize,
    last_checkpoint: Instant,
    failed: bool,
}

impl Writer {
    /// Starts a token file that will be `path`. `job` is the caller's digest of everything its input depends on; a resume
    /// must give the same. Fails if `path` or its partial file exist, unless `overwrite` is set, and if `path` is no regular
    /// file; a start that fails leaves nothing behind.
    pub fn create(path: &Path, spec: &Spec, job: Digest, overwrite: bool) -> Result<Self> {
        let layout = check_spec(spec)?;
        let front = Front::new(spec)?;
        refuse_in_the_way(path, overwrite)?;
        let partial = partial_path(path);
        let file = lock(&partial, true)?;
        Self::start(path, partial, file, spec, layout, front, job, overwrite)
            .inspect_err(|_| remove_unfinished(path))
    }

    /// Continues the job that was writing `path` and was stopped. [`Error::ResumeMismatch`] if `spec` or `job` are not
    /// what it was started with, [`Error::NothingToResume`] if there is no partial file, [`Error::AlreadyComplete`] if the
    /// job had ended and only its journal was left (which is then removed).
    pub fn resume(path: &Path, spec: &Spec, job: Digest, overwrite: bool) -> Result<Self> {
        let partial = partial_path(path);
        if !exists(&partial)? {
            let header = JournalHeader::new(spec, &check_spec(spec)?, job);
            return Err(crate::resume::without_partial(path, &header));
        }
        refuse_existing(path, overwrite)?;
        let file = lock(&partial, false)?;
        Self::resume_locked(path, file, spec, job, overwrite)
    }

    /// Continues from a partial file that is locked already, as `file`.
    pub(crate) fn resume_locked(
        path: &Path,
        file: File,
        spec: &Spec,
        job: Digest,
        overwrite: bool,
    ) -> Result<Self> {
        let layout = check_spec(spec)?;
        let front = Front::new(spec)?;
        let partial = partial_path(path);
        let header = JournalHeader::new(spec, &layout, job);
        let found = crate::resume::read_state(path, spec, &layout, &front, &file, &header)?;
        let Some(state) = found else {
            return Self::start(path, partial, file, spec, layout, front, job, overwrite);
        };
        let journal = Journal::reopen(&journal_path(path), state.journal_length)?;
        let length = state.block_start + open_length(&state);
        file.set_len(length).map_err(Error::io("cut", &partial))?;
        let mut writer = Self::assemble(
            path, partial, file, journal, spec, layout, front, state, overwrite,
        );
        writer.write_front()?;
        Ok(writer)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the two ways to a writer meet here"
    )]
    fn start(
        path: &Path,
        partial: PathBuf,
        file: File,
        spec: &Spec,
        layout: Layout,
        front: Front,
        job: Digest,
        overwrite: bool,
    ) -> Result<Self> {
        let journal_path = journal_path(path);
        // A journal of an earlier job must never be taken for this partial file's.
        remove_if_there(&journal_path).map_err(Error::io("remove", &journal_path))?;
        file.set_len(0).map_err(Error::io("cut", &partial))?;
        let header = JournalHeader::new(spec, &layout, job);
        let journal = Journal::create(&journal_path, &header)?;
        let state = State::new(front.end());
        let mut writer = Self::assemble(
            path, partial, file, journal, spec, layout, front, state, overwrite,
        );
        writer.write_front()?;
        Ok(writer)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the two ways to a writer meet here"
    )]
    fn assemble(
        path: &Path,
        partial: PathBuf,
        file: File,
        journal: Journal,
        spec: &Spec,
        layout: Layout,
        front: Front,
        state: State,
        overwrite: bool,
    ) -> Self {
        Self {
            path: path.to_owned(),
            partial,
            file,
            journal,
            spec: spec.clone(),
            layout,
            front,
            fixed: layout.fixed(),
            overwrite,
            side: JournalEntry::default(),
            side_bytes: 0,
            written: open_length(&state) as usize,
            state,
            last_checkpoint: Instant::now(),
            failed: false,
        }
    }

    /// Input positions below this one are done and need not be handed over again; 0 for a fresh writer.
    pub fn next_position(&self) -> u64 {
        self.state.next_position
    }

    /// How many of the positions that are done had no picture.
    pub fn skipped_positions(&self) -> u64 {
        self.state.next_position.saturating_sub(self.state.pictures)
    }

    /// Adds the picture at input position `position`; positions increase, and gaps are pictures that the caller skipped.
    /// A picture that does not fit the specification is refused and changes nothing; after an I/O error the writer is of
    /// no further use, but what is in the journal can be resumed.
    pub fn push(&mut self, position: u64, picture: &Picture) -> Result<()> {
        self.refuse_failed()?;
        let length = self.check_picture(position, picture)?;
        self.guarded(|writer| writer.add(position, picture, length))
    }

    fn add(&mut self, position: u64, picture: &Picture, length: u64) -> Result<()> {
        if self.state.block.must_close_before(&self.layout, length) {
            self.close_block()?;
        }
        let Picture { rows, cols, .. } = *picture;
        let ids_per_view = rows as usize * cols as usize;
        for view in picture.ids.chunks_exact(ids_per_view) {
            self.state
                .block
                .push(&self.layout, rows, cols, length, view);
            if self.fixed.is_none() {
                self.side.shapes.push((rows, cols));
            }
        }
        self.state.seen.insert_all(picture.ids);
        self.add_side(picture);
        self.state.pictures += 1;
        self.state.records += u64::from(self.layout.views);
        self.state.next_position = position + 1;
        if self.state.block.records() >= self.layout.records_per_block {
            self.close_block()?;
        }
        let due = self.last_checkpoint.elapsed() >= CHECKPOINT;
        if due || self.side_bytes >= SIDE_BYTES {
            self.checkpoint()?;
        }
        if due {
            self.sync()?;
        }
        Ok(())
    }

    fn add_side(&mut self, picture: &Picture) {
        self.side.pictures += 1;
        self.side_bytes += 16 + 8 * self.layout.views as usize;
        if self.spec.classes.is_some() {
            self.side.labels.push(picture.label.unwrap_or(NO_LABEL));
        }
        if self.spec.names {
            self.side.names.push(picture.name.to_vec());
            self.side_bytes += picture.name.len() + 8;
        }
        if self.spec.sizes {
            self.side.sizes.push((picture.width, picture.height));
        }
    }

    /// Journals all that was handed over so far, so that a killed job need not do it again. Call it where pictures come
    /// seldom: `push` by itself journals on the first picture after a second, and those that follow wait for the next.
    pub fn flush(&mut self) -> Result<()> {
        self.refuse_failed()?;
        self.guarded(Self::checkpoint)
    }

    /// Completes the file, syncs it, gives it its name and removes the journal. `positions` is how many inputs there were,
    /// those skipped after the last picture included. Killed on the way, the job is resumed or found complete.
    pub fn finish(mut self, positions: u64) -> Result<Summary> {
        self.refuse_failed()?;
        if positions < self.state.next_position {
            let expected = format!("at least {}", self.state.next_position);
            return Err(Error::argument("number of positions", expected, positions));
        }
        self.state.next_position = positions;
        if self.state.block.records() > 0 {
            self.close_block()?;
        }
        self.sync()?;
        refuse_existing(&self.path, self.overwrite)?;
        seal(self)
    }

    /// Stops for now: journals all that was handed over and keeps the partial file for [`Writer::resume`].
    pub fn suspend(mut self) -> Result<()> {
        self.refuse_failed()?;
        self.checkpoint()?;
        self.sync()
    }

    /// Gives up: removes the partial file and its journal.
    pub fn discard(self) -> Result<()> {
        let journal = self.journal.path();
        remove_if_there(journal).map_err(Error::io("remove", journal))?;
        remove_if_there(&self.partial).map_err(Error::io("remove", &self.partial))
    }

    fn refuse_failed(&self) -> Result<()> {
        if self.failed {
            return Err(Error::WriterFailed {
                path: self.partial.clone(),
            });
        }
        Ok(())
    }

    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let result = work(self);
        self.failed = result.is_err();
        result
    }

    /// Checks a picture against the specification; bytes of each of its records.
    fn check_picture(&self, position: u64, picture: &Picture) -> Result<u64> {
        if position < self.state.next_position || position == u64::MAX {
            let expected = format!("at least {}", self.state.next_position);
            return Err(Error::argument("position", expected, position));
        }
        let Picture { rows, cols, .. } = *picture;
        let length = match &self.fixed {
            Some(fixed) if (fixed.rows, fixed.cols) == (rows, cols) => fixed.stride,
            Some(fixed) => {
                let expected = format!("{} x {}", fixed.rows, fixed.cols);
                return Err(Error::argument(
                    "grid",
                    expected,
                    format!("{rows} x {cols}"),
                ));
            }
            None => self
                .layout
                .record_length(rows, cols)
                .map_err(|e| e.argument())?,
        };
        let ids = rows as usize * cols as usize * self.layout.views as usize;
        if picture.ids.len() != ids {
            return Err(Error::argument(
                "number of ids",
                ids.to_string(),
                picture.ids.len(),
            ));
        }
        let codebook_size = self.spec.codebook_size;
        if max_id(picture.ids).is_some_and(|id| id >= codebook_size) {
            let wrong = picture
                .ids
                .iter()
                .enumerate()
                .find(|&(_, &id)| id >= codebook_size);
            let (index, &id) = wrong.unwrap_or((0, &codebook_size));
            return Err(Error::InvalidId {
                position,
                index,
                codebook_size,
                id,
            });
        }
        if let Some(label) = picture.label {
            let classes = self.spec.classes.as_ref().map_or(0, Vec::len);
            if label as usize >= classes {
                let expected = match classes {
                    0 => "no label: there are no classes".to_owned(),
                    classes => format!("below {classes}"),
                };
                return Err(Error::argument("label", expected, label));
            }
        }
        if self.spec.names && picture.name.len() > MAX_TEXT {
            let expected = format!("at most {MAX_TEXT} bytes");
            return Err(Error::argument("name", expected, picture.name.len()));
        }
        if self.state.blocks >= MAX_BLOCKS {
            let expected = format!("at most {MAX_BLOCKS} in a file");
            return Err(Error::argument("blocks", expected, self.state.blocks));
        }
        Ok(length)
    }

    /// Completes the open block and journals it.
    fn close_block(&mut self) -> Result<()> {
        let state = &mut self.state;
        let first_record = state.records - u64::from(state.block.records());
        let index = state
            .block
            .close(state.blocks, first_record, state.block_start)?;
        let bytes = state.block.bytes();
        let start = state.block_start;
        if self.written > 0 {
            write_at(&self.file, &self.partial, start, &bytes[..BlockHeader::LEN])?;
        }
        let behind = start + self.written as u64;
        write_at(&self.file, &self.partial, behind, &bytes[self.written..])?;
        state.block.clear();
        state.blocks += 1;
        state.block_start += index.length;
        self.written = 0;
        self.journal_side(|entry| entry.closed = Some(index))
    }

    /// Writes what is not written of the open block, and journals it.
    fn checkpoint(&mut self) -> Result<()> {
        if self.side.pictures == 0 {
            return Ok(());
        }
        let bytes = self.state.block.bytes();
        let at = self.state.block_start + self.written as u64;
        write_at(&self.file, &self.partial, at, &bytes[self.written..])?;
        self.written = bytes.len();
        let (open_length, open_crc32) = (
            bytes.len() as u64,
            crc32fast::hash(&bytes[BlockHeader::LEN..]),
        );
        self.journal_side(|entry| {
            entry.open_length = open_length;
            entry.open_crc32 = open_crc32;
        })
    }

    fn journal_side(&mut self, complete: impl FnOnce(&mut JournalEntry)) -> Result<()> {
        let mut entry = std::mem::take(&mut self.side);
        self.side_bytes = 0;
        entry.next_position = self.state.next_position;
        complete(&mut entry);
        self.journal.append(&entry)
    }

    /// Makes the partial file and then the journal durable. The order spares work after a power failure; a resume is
    /// right either way, for it believes the journal only where the bytes agree.
    fn sync(&mut self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(Error::io("sync", &self.partial))?;
        self.journal.sync()?;
        self.last_checkpoint = Instant::now();
        Ok(())
    }

    /// Writes zeros for the header, and the sections that stand before the blocks.
    fn write_front(&mut self) -> Result<()> {
        write_at(&self.file, &self.partial, 0, &[0; Header::LEN])?;
        write_at(
            &self.file,
            &self.partial,
            Header::LEN as u64,
            &self.front.bytes,
        )
    }
}

/// Bytes of the open block that are in the file when a writer starts from `state`.
fn open_length(state: &State) -> u64 {
    match state.block.records() {
        0 => 0,
        _ => state.block.bytes().len() as u64,
    }
}

pub(crate) fn write_at(mut file: &File, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.write_all(bytes))
        .map_err(Error::io("write", path))
}
