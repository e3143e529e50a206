//! Writing sections: bytes go to the file while their length, CRC and SHA-256 are taken.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Place, Result};
use crate::header::equal;
use crate::layout::{Invalid, Layout};
use crate::limits::{MAX_CLASS_TEXT, MAX_CLASSES, MAX_PREPROCESSING, MAX_TEXT, MAX_VIEW_TEXT};
use crate::records::{self, CLASSES, Header, METADATA, Metadata, SectionEntry};
use crate::spec::Spec;
use crate::text::TextWriter;

/// A section that is being written.
pub(crate) struct SectionSink {
    kind: u32,
    offset: u64,
    length: u64,
    crc: crc32fast::Hasher,
    sha: Hasher,
}

impl SectionSink {
    pub(crate) fn new(kind: u32, offset: u64) -> Self {
        Self {
            kind,
            offset,
            length: 0,
            crc: crc32fast::Hasher::new(),
            sha: Hasher::default(),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.crc.update(bytes);
        self.sha.update(bytes);
    }

    pub(crate) fn finish(self) -> (SectionEntry, Digest) {
        let entry = SectionEntry {
            kind: self.kind,
            crc32: self.crc.finalize(),
            offset: self.offset,
            length: self.length,
        };
        (entry, self.sha.finish())
    }
}

/// The end of a partial file, buffered.
pub(crate) struct Tail<'a> {
    path: &'a Path,
    file: BufWriter<&'a File>,
    pub(crate) offset: u64,
}

impl<'a> Tail<'a> {
    /// Writes from byte `offset` of `file` on.
    pub(crate) fn new(mut file: &'a File, path: &'a Path, offset: u64) -> Result<Self> {
        file.seek(SeekFrom::Start(offset))
            .map_err(Error::io("write", path))?;
        Ok(Self {
            path,
            file: BufWriter::with_capacity(1 << 18, file),
            offset,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(Error::io("write", self.path))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn flush(mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", self.path))
    }
}

/// What stands between the header and the blocks: all that is known before the first record.
pub(crate) struct Front {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sections: Vec<(SectionEntry, Digest)>,
}

impl Front {
    /// Encodes the metadata and class name sections of a specification and checks their limits.
    pub(crate) fn new(spec: &Spec) -> Result<Self> {
        let metadata = Metadata {
            views: spec.views.clone(),
            preprocessing: spec.preprocessing.clone(),
        };
        check_metadata(&metadata).map_err(Invalid::argument)?;
        let mut bytes = records::encode(&metadata)
            .map_err(|found| Error::argument("metadata", "what can be encoded", found))?;
        let mut sink = SectionSink::new(METADATA, Header::LEN as u64);
        sink.update(&bytes);
        let mut sections = vec![sink.finish()];
        if let Some(classes) = &spec.classes {
            check_classes(classes).map_err(Invalid::argument)?;
            let mut sink = SectionSink::new(CLASSES, (Header::LEN + bytes.len()) as u64);
            let mut write = |piece: &[u8]| {
                sink.update(piece);
                bytes.extend(piece);
                Ok(())
            };
            let mut text = TextWriter::new(classes.len() as u64, &mut write)?;
            classes.iter().try_for_each(|class| text.push(class))?;
            text.finish()?;
            sections.push(sink.finish());
        }
        Ok(Self { bytes, sections })
    }

    /// First byte behind it in the file: the first block.
    pub(crate) fn end(&self) -> u64 {
        (Header::LEN + self.bytes.len()) as u64
    }
}

/// Checks a specification; both writing and recovering start here.
pub(crate) fn check_spec(spec: &Spec) -> Result<Layout> {
    let Spec {
        codebook_size,
        grid,
        ref views,
        records_per_block,
        ..
    } = *spec;
    Layout::new(codebook_size, grid, views.len(), records_per_block).map_err(|e| e.argument())
}

/// Reads the metadata section of a file whose pictures have `views` views each.
pub(crate) fn read_metadata(views: u32, section: &SectionEntry, bytes: &[u8]) -> Result<Metadata> {
    let metadata: Metadata = records::decode(bytes).map_err(|found| Error::Decode {
        place: Place::Metadata,
        offset: section.offset,
        expected: "a metadata record",
        found,
    })?;
    equal(
        "number of view names",
        views.into(),
        metadata.views.len() as u64,
    )
    .and_then(|()| check_metadata(&metadata))
    .map_err(|e| e.damage(Place::Metadata, section.offset))?;
    Ok(metadata)
}

fn at_most(what: &'static str, limit: usize, found: usize) -> Result<(), Invalid> {
    if found > limit {
        return Err(Invalid::new(what, format!("at most {limit}"), found));
    }
    Ok(())
}

fn check_metadata(metadata: &Metadata) -> Result<(), Invalid> {
    at_most(
        "bytes of the preprocessing record",
        MAX_PREPROCESSING,
        metadata.preprocessing.len(),
    )?;
    let text = metadata.views.iter().map(String::len);
    at_most("bytes of all view names", MAX_VIEW_TEXT, text.sum())
}

fn check_classes(classes: &[Vec<u8>]) -> Result<(), Invalid> {
    at_most("class names", MAX_CLASSES, classes.len())?;
    at_most(
        "bytes of all class names",
        MAX_CLASS_TEXT,
        classes.iter().map(Vec::len).sum(),
    )?;
    classes
        .iter()
        .try_for_each(|class| at_most("bytes of a class name", MAX_TEXT, class.len()))
}
