//! The journal: a side file that says what of a partial file is good, and keeps the labels, names and sizes of its pictures
//! until the end.
//!
//! An 8-byte magic, then frames of u32 length, u32 CRC-32 and that many bytes: the first a `JournalHeader`, the others a
//! `JournalEntry` each. A frame that is cut or damaged ends the journal; whatever follows is ignored and cut off by a resume.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::records::{self, JournalEntry, JournalHeader, Metadata};
use crate::spec::{Grid, Spec};

const MAGIC: [u8; 8] = *b"\x89VQTJ\r\n\x1a";
const VERSION: u32 = 1;
/// Bytes of a frame's payload at most; the header with all class names is the largest.
const MAX_FRAME: u32 = 8 << 20;

impl JournalHeader {
    pub(crate) fn new(spec: &Spec, layout: &Layout, job: Digest) -> Self {
        let (grid_rows, grid_cols) = match spec.grid {
            Grid::Fixed { rows, cols } => (rows, cols),
            Grid::Varying => (0, 0),
        };
        Self {
            version: VERSION,
            job,
            codebook_size: spec.codebook_size,
            grid_rows,
            grid_cols,
            records_per_block: layout.records_per_block,
            digests: spec.digests,
            metadata: Metadata {
                views: spec.views.clone(),
                preprocessing: spec.preprocessing.clone(),
            },
            classes: spec.classes.clone(),
            names: spec.names,
            sizes: spec.sizes,
        }
    }

    /// The specification of the unfinished file.
    pub(crate) fn spec(self) -> Spec {
        Spec {
            codebook_size: self.codebook_size,
            grid: match (self.grid_rows, self.grid_cols) {
                (0, 0) => Grid::Varying,
                (rows, cols) => Grid::Fixed { rows, cols },
            },
            views: self.metadata.views,
            records_per_block: Some(self.records_per_block),
            digests: self.digests,
            preprocessing: self.metadata.preprocessing,
            classes: self.classes,
            names: self.names,
            sizes: self.sizes,
        }
    }
}

/// A journal open for appending.
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    /// Bytes of good frames.
    length: u64,
}

impl Journal {
    /// Starts a journal, over any that is there.
    pub(crate) fn create(path: &Path, header: &JournalHeader) -> Result<Self> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            length: 0,
        };
        journal.write(&MAGIC)?;
        journal.append(header)?;
        journal.sync()?;
        Ok(journal)
    }

    /// Opens a journal to continue it behind its first `length` bytes; what follows them is cut off.
    pub(crate) fn reopen(path: &Path, length: u64) -> Result<Self> {
        let io = |error| Error::io("reopen", path)(error);
        let mut file = OpenOptions::new().write(true).open(path).map_err(io)?;
        file.set_len(length).map_err(io)?;
        file.seek(SeekFrom::Start(length)).map_err(io)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            length,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(Error::io("write", &self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn append(&mut self, record: &impl bincode::Encode) -> Result<()> {
        let payload = records::encode(record)
            .map_err(|found| Error::argument("journal entry", "what can be encoded", found))?;
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|&length| length <= MAX_FRAME);
        let Some(length) = length else {
            let expected = format!("at most {MAX_FRAME} bytes");
            return Err(Error::argument("journal entry", expected, payload.len()));
        };
        let mut frame = Vec::with_capacity(payload.len() + 8);
        frame.extend(length.to_le_bytes());
        frame.extend(crc32fast::hash(&payload).to_le_bytes());
        frame.extend(payload);
        self.write(&frame)
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the entries again, from the first to the last one appended.
    pub(crate) fn replay(&self, mut each: impl FnMut(JournalEntry) -> Result<()>) -> Result<()> {
        let lost = || Error::JournalLost {
            path: self.path.clone(),
        };
        let (_, mut entries) = Entries::open(&self.path)?.ok_or_else(lost)?;
        while entries.end() < self.length {
            each(entries.next()?.ok_or_else(lost)?)?;
        }
        Ok(())
    }
}

/// The good entries of a journal, one after the other.
pub(crate) struct Entries {
    file: BufReader<File>,
    path: PathBuf,
    end: u64,
}

impl Entries {
    /// Opens a journal for reading: its header and its entries, or `None` if there is none or its header is no good.
    pub(crate) fn open(path: &Path) -> Result<Option<(JournalHeader, Self)>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("open", path))?,
        };
        let mut entries = Self {
            file: BufReader::with_capacity(1 << 18, file),
            path: path.to_owned(),
            end: 0,
        };
        let mut magic = [0; 8];
        if !entries.fill(&mut magic)? || magic != MAGIC {
            return Ok(None);
        }
        entries.end = 8;
        let header: Option<JournalHeader> = entries.frame()?;
        Ok(header
            .filter(|header| header.version == VERSION)
            .map(|header| (header, entries)))
    }

    /// The next entry, or `None` where the good ones end.
    pub(crate) fn next(&mut self) -> Result<Option<JournalEntry>> {
        self.frame()
    }

    /// Byte behind the last frame that was good.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    fn frame<T: bincode::Decode<()>>(&mut self) -> Result<Option<T>> {
        let mut head = [0; 8];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = head;
        let (length, crc) = (
            u32::from_le_bytes([l0, l1, l2, l3]),
            u32::from_le_bytes([c0, c1, c2, c3]),
        );
        if length > MAX_FRAME {
            return Ok(None);
        }
        let mut payload = vec![0; length as usize];
        if !self.fill(&mut payload)? || crc32fast::hash(&payload) != crc {
            return Ok(None);
        }
        let Ok(record) = records::decode(&payload) else {
            return Ok(None);
        };
        self.end += 8 + u64::from(length);
        Ok(Some(record))
    }

    /// Fills `bytes`; false if the file ends before.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool> {
        match self.file.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(Error::io("read", &self.path)(error)),
        }
    }
}
