//! Reading a token file: opening it, and its ids.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::block::{self, table_entry};
use crate::digest::{Digest, Digests};
use crate::error::{Error, Place, Result};
use crate::header::equal;
use crate::ids::IdSet;
use crate::index;
use crate::layout::{Fixed, Invalid, Layout};
use crate::mapped::Mapped;
use crate::pack::{prefetch, unpack};
use crate::records::{
    self, BLOCKS, BlockHeader, Footer, Header, INDEX, IndexEntry, METADATA, Metadata, SectionEntry,
};
use crate::sections::read_metadata;
use crate::spec::{Grid, Spec};

/// A token file over any bytes: a memory map, a `Vec`, a slice.
///
/// Opening checks header, footer, index, metadata and class names, and that every byte belongs to exactly one part. A
/// block's CRC, padding bits and ids are checked when it is first touched, and so are the labels, names and sizes; from
/// then on reading a record of a fixed grid is arithmetic, one atomic load and the unpacking.
pub struct TokenFile<D> {
    data: D,
    header: Header,
    pub(crate) layout: Layout,
    fixed: Option<Fixed>,
    digests: Digests,
    metadata: Metadata,
    classes: Option<Vec<Vec<u8>>>,
    content: Digest,
    /// First byte of the first block.
    blocks_start: u64,
    /// A bit for each block that was checked.
    checked_blocks: Vec<AtomicU64>,
    /// A bit for each entry of the section table that was checked.
    checked_sections: AtomicU32,
}

impl TokenFile<Mapped> {
    /// Opens and maps a file, once its header and length are seen to be right.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, _) = open_checked(path)?;
        Self::new(Mapped::new(&file).map_err(Error::io("map", path))?)
    }
}

impl TokenFile<Vec<u8>> {
    /// Reads a whole file into memory, once its header and length are seen to be right. For files that another process
    /// may change meanwhile.
    pub fn read(path: &Path) -> Result<Self> {
        let (mut file, mut data) = open_checked(path)?;
        file.read_to_end(&mut data)
            .map_err(Error::io("read", path))?;
        Self::new(data)
    }
}

/// Opens a file and checks its header and length; the file, read up to behind the header, and the header's bytes.
fn open_checked(path: &Path) -> Result<(File, Vec<u8>)> {
    let io = |error| Error::io("open", path)(error);
    // A pipe would block, a folder cannot be read: neither has a length to check.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(Error::argument("input", "a file", path.display()));
    }
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut start = Vec::with_capacity(Header::LEN);
    let head = (&mut file).take(Header::LEN as u64).read_to_end(&mut start);
    head.map_err(Error::io("read", path))?;
    Header::parse(&start, length)?;
    Ok((file, start))
}

impl<D: AsRef<[u8]>> TokenFile<D> {
    /// Opens the token file that `data` is.
    pub fn new(data: D) -> Result<Self> {
        let bytes = data.as_ref();
        let header = Header::parse(bytes, bytes.len() as u64)?;
        let layout = header.layout().map_err(|e| e.damage(Place::Header, 0))?;
        let footer_at = bytes.len() - Footer::LEN;
        let footer = Footer::parse(&bytes[footer_at..], footer_at as u64)?;
        if bytes[footer_at..][..Header::LEN] != bytes[..Header::LEN] {
            let invalid = Invalid::new("header", "the same bytes as the header", "others");
            return Err(invalid.damage(Place::Footer, footer_at as u64));
        }
        let blocks_start = header.section(BLOCKS).map_or(0, |section| section.offset);
        let mut file = Self {
            fixed: layout.fixed(),
            digests: header.digests(),
            metadata: Metadata {
                views: Vec::new(),
                preprocessing: Vec::new(),
            },
            classes: None,
            content: footer.content,
            blocks_start,
            checked_blocks: Vec::new(),
            checked_sections: AtomicU32::new(0),
            data,
            header,
            layout,
        };
        let (section, bytes) = file.required(METADATA)?;
        file.metadata = read_metadata(file.header.views_per_picture, section, bytes)?;
        file.classes = file.read_classes()?;
        index::check(&file.header, &layout, file.index()?)?;
        let words = file.header.blocks.div_ceil(64) as usize;
        file.checked_blocks.resize_with(words, AtomicU64::default);
        Ok(file)
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What made the ids.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The content digest: SHA-256 over the SHA-256 of each block and then of each other section. Training checkpoints
    /// name their data by it.
    pub fn content(&self) -> Digest {
        self.content
    }

    /// Records: pictures times views.
    pub fn len(&self) -> u64 {
        self.header.records
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pictures.
    pub fn pictures(&self) -> u64 {
        self.header.pictures
    }

    /// Names of the views; record number = picture * views + view.
    pub fn views(&self) -> &[String] {
        &self.metadata.views
    }

    /// The grid of ids of each record.
    pub fn grid(&self) -> Grid {
        self.layout.grid
    }

    /// Entries of the codebook (K); every id is below it.
    pub fn codebook_size(&self) -> u32 {
        self.layout.codebook_size
    }

    /// Bits of a packed id.
    pub fn bits(&self) -> u32 {
        self.layout.bits
    }

    /// The preprocessing record, opaque here.
    pub fn preprocessing(&self) -> &[u8] {
        &self.metadata.preprocessing
    }

    /// Names of the classes, in a file with labels.
    pub fn classes(&self) -> Option<&[Vec<u8>]> {
        self.classes.as_deref()
    }

    /// The specification that a writer of this file was given.
    pub fn spec(&self) -> Spec {
        Spec {
            codebook_size: self.codebook_size(),
            grid: self.grid(),
            views: self.metadata.views.clone(),
            records_per_block: Some(self.header.records_per_block),
            digests: self.digests,
            preprocessing: self.metadata.preprocessing.clone(),
            classes: self.classes.clone(),
            names: self.header.section(records::NAMES).is_some(),
            sizes: self.header.section(records::SIZES).is_some(),
        }
    }

    /// Rows and columns of a record.
    pub fn shape(&self, record: u64) -> Result<(u32, u32)> {
        if let Some(fixed) = &self.fixed {
            self.in_range(record)?;
            return Ok((fixed.rows, fixed.cols));
        }
        self.varying(record).map(|(rows, cols, _)| (rows, cols))
    }

    /// Unpacks a record into `out` (resized to rows * cols, row-major) and returns its rows and columns.
    pub fn get(&self, record: u64, out: &mut Vec<u32>) -> Result<(u32, u32)> {
        let (rows, cols, bytes) = match &self.fixed {
            Some(fixed) => (fixed.rows, fixed.cols, self.fixed_record(fixed, record)?),
            None => self.varying(record)?,
        };
        out.resize(rows as usize * cols as usize, 0);
        unpack(bytes, self.layout.bits, out);
        Ok((rows, cols))
    }

    /// Unpacks consecutive records of a fixed grid into `out`, `[records, rows, cols]` row-major.
    pub fn get_range(&self, records: Range<u64>, out: &mut [u32]) -> Result<()> {
        let fixed = self.fixed_output(records.end.saturating_sub(records.start), out.len())?;
        for (record, ids) in records.zip(out.chunks_exact_mut(fixed.ids())) {
            unpack(self.fixed_record(fixed, record)?, self.layout.bits, ids);
        }
        Ok(())
    }

    /// Unpacks scattered records of a fixed grid into `out`, `[records, rows, cols]` row-major: the training path.
    pub fn gather(&self, records: &[u64], out: &mut [u32]) -> Result<()> {
        let fixed = self.fixed_output(records.len() as u64, out.len())?;
        for (turn, ids) in out.chunks_exact_mut(fixed.ids()).enumerate() {
            // While one record is unpacked the next is on its way: that doubles the records a second.
            if let Some(&next) = records.get(turn + 1).filter(|&&next| next < self.len()) {
                prefetch(self.fixed_bytes(fixed, next)?);
            }
            unpack(
                self.fixed_record(fixed, records[turn])?,
                self.layout.bits,
                ids,
            );
        }
        Ok(())
    }

    fn fixed_output(&self, records: u64, found: usize) -> Result<&Fixed> {
        let fixed = self.fixed.as_ref().ok_or(Error::GridVaries)?;
        let expected = records.checked_mul(fixed.ids() as u64);
        if expected != Some(found as u64) {
            let expected = format!("{records} records of {} ids", fixed.ids());
            return Err(Error::argument("length of the output", expected, found));
        }
        Ok(fixed)
    }

    fn in_range(&self, record: u64) -> Result<()> {
        if record >= self.header.records {
            return Err(Error::OutOfRange {
                what: "record",
                len: self.header.records,
                index: record,
            });
        }
        Ok(())
    }

    /// The bytes of a record of a fixed grid, in a block that was checked.
    #[inline]
    fn fixed_record(&self, fixed: &Fixed, record: u64) -> Result<&[u8]> {
        self.in_range(record)?;
        self.touch(record / u64::from(self.layout.records_per_block))?;
        self.fixed_bytes(fixed, record)
    }

    /// The bytes of an existing record of a fixed grid. Opening has checked that every block lies where this computes it.
    #[inline]
    fn fixed_bytes(&self, fixed: &Fixed, record: u64) -> Result<&[u8]> {
        let block = record / u64::from(self.layout.records_per_block);
        let heads = (block + 1) * BlockHeader::LEN as u64;
        let start = self.blocks_start + heads + record * fixed.stride;
        self.bytes(start, fixed.stride)
    }

    /// Rows, columns and bytes of a record of a file of varying grids.
    fn varying(&self, record: u64) -> Result<(u32, u32, &[u8])> {
        self.in_range(record)?;
        let number = index::find(self.index()?, self.header.blocks, record)?;
        self.touch(number)?;
        let entry = self.index_entry(number)?;
        let bytes = self.bytes(entry.offset, entry.length)?;
        let header = block::header_of(bytes, number, entry.offset)?;
        let within = record.saturating_sub(entry.first_record) as u32;
        let found = table_entry(bytes, &header, within, entry.offset)?;
        let damage = |e: Invalid| e.damage(Place::Block(number), entry.offset);
        let length = self
            .layout
            .record_length(found.rows, found.cols)
            .map_err(damage)?;
        let packed = self.bytes(entry.offset.saturating_add(found.offset), length)?;
        Ok((found.rows, found.cols, packed))
    }

    /// Checks a block unless it was checked before.
    #[inline]
    fn touch(&self, block: u64) -> Result<()> {
        let bit = 1 << (block % 64);
        match self.checked_blocks.get((block / 64) as usize) {
            // Relaxed: the bytes do not change, only whether they were looked at.
            Some(word) if word.load(Ordering::Relaxed) & bit != 0 => Ok(()),
            _ => self.touch_first(block, bit),
        }
    }

    #[cold]
    fn touch_first(&self, block: u64, bit: u64) -> Result<()> {
        self.verify_block(block, None)?;
        if let Some(word) = self.checked_blocks.get((block / 64) as usize) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Checks a block against its own bytes and its entry of the index, which is returned with the block's bytes.
    pub(crate) fn verify_block(
        &self,
        number: u64,
        seen: Option<&mut IdSet>,
    ) -> Result<(IndexEntry, &[u8])> {
        let entry = self.index_entry(number)?;
        let bytes = self.bytes(entry.offset, entry.length)?;
        let header = block::verify(&self.layout, bytes, number, entry.offset, seen)?;
        let damage = |e: Invalid| e.damage(Place::Block(number), entry.offset);
        equal("crc32", entry.crc32.into(), header.crc32.into()).map_err(damage)?;
        equal("first_record", entry.first_record, header.first_record).map_err(damage)?;
        equal("records", entry.records.into(), header.records.into()).map_err(damage)?;
        equal("codec", entry.codec.into(), header.codec.into()).map_err(damage)?;
        Ok((entry, bytes))
    }

    fn index(&self) -> Result<&[u8]> {
        self.required(INDEX).map(|(_, bytes)| bytes)
    }

    pub(crate) fn index_entry(&self, number: u64) -> Result<IndexEntry> {
        index::entry(self.index()?, number)
    }

    fn required(&self, kind: u32) -> Result<(&SectionEntry, &[u8])> {
        let missing = || Invalid::new("sections", format!("a section of kind {kind}"), "none");
        let section = self.section(kind)?;
        section.ok_or_else(|| missing().damage(Place::Header, 0))
    }

    /// A section and its bytes, if the file has it; its CRC is checked when it is first asked for.
    pub(crate) fn section(&self, kind: u32) -> Result<Option<(&SectionEntry, &[u8])>> {
        let sections = self.header.sections();
        let Some(slot) = sections.iter().position(|section| section.kind == kind) else {
            return Ok(None);
        };
        let section = &sections[slot];
        let bytes = self.bytes(section.offset, section.length)?;
        let bit = 1 << slot;
        if self.checked_sections.load(Ordering::Relaxed) & bit == 0 {
            check_section(section, bytes)?;
            self.checked_sections.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(Some((section, bytes)))
    }

    /// Bytes of the file; opening has checked that they are there.
    #[inline]
    pub(crate) fn bytes(&self, offset: u64, length: u64) -> Result<&[u8]> {
        let data = self.data.as_ref();
        let end = offset.saturating_add(length);
        data.get(offset as usize..end as usize)
            .ok_or(Error::Length {
                expected: end,
                found: data.len() as u64,
            })
    }
}

/// Checks the CRC of a section (not of the blocks, which have one each).
pub(crate) fn check_section(section: &SectionEntry, bytes: &[u8]) -> Result<()> {
    let found = crc32fast::hash(bytes);
    if found != section.crc32 {
        return Err(Error::Checksum {
            place: section.place(),
            offset: section.offset,
            expected: section.crc32,
            found,
        });
    }
    Ok(())
}
