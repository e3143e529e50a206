//! Text sections (names, class names): zstd frames of at most [`TEXTS_PER_CHUNK`] texts each, then the table of the frames.

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use crate::error::{Error, Place, Result};
use crate::layout::Invalid;
use crate::limits::MAX_TEXT;
use crate::records::{self, ChunkEntry, TextHeader};

/// Texts of each chunk but the last.
pub(crate) const TEXTS_PER_CHUNK: u32 = 1024;
/// Bytes of a decoded chunk at most; each text is a u16 length and its bytes.
pub(crate) const MAX_CHUNK: u32 = TEXTS_PER_CHUNK * (2 + MAX_TEXT as u32);
/// Of the levels, the one after which names shrink no further worth mentioning.
const LEVEL: i32 = 9;

/// Writes a text section to `sink` piece by piece.
pub(crate) struct TextWriter<'a, S: FnMut(&[u8]) -> Result<()>> {
    sink: &'a mut S,
    compressor: Compressor<'static>,
    chunk: Vec<u8>,
    in_chunk: u32,
    at: u64,
    /// 16 bytes for each 1,024 texts: the one thing that grows with their number.
    table: Vec<ChunkEntry>,
}

fn zstd_failed(error: io::Error) -> Error {
    Error::argument("text", "what zstd can compress", error)
}

impl<'a, S: FnMut(&[u8]) -> Result<()>> TextWriter<'a, S> {
    /// Starts a section of exactly `texts` texts.
    pub(crate) fn new(texts: u64, sink: &'a mut S) -> Result<Self> {
        let header = TextHeader {
            texts,
            texts_per_chunk: TEXTS_PER_CHUNK,
            reserved: 0,
        };
        sink(&records::encode(&header).map_err(|e| Error::argument("text", "encodable", e))?)?;
        Ok(Self {
            sink,
            compressor: Compressor::new(LEVEL).map_err(zstd_failed)?,
            chunk: Vec::new(),
            in_chunk: 0,
            at: TextHeader::LEN as u64,
            table: Vec::new(),
        })
    }

    pub(crate) fn push(&mut self, text: &[u8]) -> Result<()> {
        let length = u16::try_from(text.len())
            .ok()
            .filter(|_| text.len() <= MAX_TEXT);
        let Some(length) = length else {
            let expected = format!("at most {MAX_TEXT} bytes");
            return Err(Error::argument("text", expected, text.len()));
        };
        self.chunk.extend(length.to_le_bytes());
        self.chunk.extend(text);
        self.in_chunk += 1;
        if self.in_chunk == TEXTS_PER_CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let frame = self.compressor.compress(&self.chunk).map_err(zstd_failed)?;
        self.table.push(ChunkEntry {
            offset: self.at,
            // Both below 5 MiB: a chunk holds at most MAX_CHUNK bytes.
            length: frame.len() as u32,
            decoded_length: self.chunk.len() as u32,
        });
        (self.sink)(&frame)?;
        self.at += frame.len() as u64;
        self.chunk.clear();
        self.in_chunk = 0;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        if self.in_chunk > 0 {
            self.flush()?;
        }
        for entry in &self.table {
            let bytes = records::encode(entry);
            (self.sink)(&bytes.map_err(|e| Error::argument("text", "encodable", e))?)?;
        }
        Ok(())
    }
}

/// Reads a text section whose CRC is right.
#[derive(Clone, Copy)]
pub(crate) struct TextReader<'a> {
    bytes: &'a [u8],
    place: Place,
    offset: u64,
    texts: u64,
    per_chunk: u32,
    chunks: u64,
}

impl<'a> TextReader<'a> {
    /// `bytes` are the section, `offset` is where it starts in the file.
    pub(crate) fn new(bytes: &'a [u8], place: Place, offset: u64) -> Result<Self> {
        let head = bytes.get(..TextHeader::LEN).unwrap_or(bytes);
        let header: TextHeader = records::decode(head).map_err(|found| Error::Decode {
            place,
            offset,
            expected: "a text header",
            found,
        })?;
        let damage = |invalid: Invalid| Err(invalid.damage(place, offset));
        if header.reserved != 0 {
            return damage(Invalid::new("reserved", "0", header.reserved));
        }
        if !(1..=TEXTS_PER_CHUNK).contains(&header.texts_per_chunk) {
            let expected = format!("1 to {TEXTS_PER_CHUNK}");
            return damage(Invalid::new(
                "texts_per_chunk",
                expected,
                header.texts_per_chunk,
            ));
        }
        let reader = Self {
            bytes,
            place,
            offset,
            texts: header.texts,
            per_chunk: header.texts_per_chunk,
            chunks: header.texts.div_ceil(header.texts_per_chunk.into()),
        };
        let room = (bytes.len() - TextHeader::LEN) as u64 / ChunkEntry::LEN as u64;
        if reader.chunks > room {
            let expected = format!("at most {room} chunks");
            return damage(Invalid::new("texts", expected, header.texts));
        }
        Ok(reader)
    }

    pub(crate) fn texts(&self) -> u64 {
        self.texts
    }

    fn entry(&self, chunk: u64) -> Result<ChunkEntry> {
        let behind = (self.chunks - chunk) as usize * ChunkEntry::LEN;
        let start = self.bytes.len() - behind;
        let found = records::decode(&self.bytes[start..start + ChunkEntry::LEN]);
        found.map_err(|found| self.undecodable("a chunk table", found))
    }

    fn undecodable(&self, expected: &'static str, found: String) -> Error {
        Error::Decode {
            place: self.place,
            offset: self.offset,
            expected,
            found,
        }
    }

    /// Decodes chunk `chunk` (below their number) and checks that it lies where it must and holds the texts it must.
    fn chunk(&self, chunk: u64) -> Result<Chunk> {
        let entry = self.entry(chunk)?;
        let end = entry.offset.saturating_add(entry.length.into());
        let next = match chunk + 1 {
            next if next < self.chunks => self.entry(next)?.offset,
            _ => self.bytes.len() as u64 - self.chunks * ChunkEntry::LEN as u64,
        };
        let first = TextHeader::LEN as u64;
        let damage = |field, expected: String, found: u64| {
            Err(Invalid::new(field, expected, found).damage(self.place, self.offset))
        };
        if end != next || entry.offset < first || (chunk == 0 && entry.offset != first) {
            return damage("chunk end", next.to_string(), end);
        }
        if entry.decoded_length > MAX_CHUNK {
            let expected = format!("at most {MAX_CHUNK}");
            return damage("decoded_length", expected, entry.decoded_length.into());
        }
        let frame = self
            .bytes
            .get(entry.offset as usize..end as usize)
            .unwrap_or(&[]);
        let decoded = Decompressor::new()
            .and_then(|mut zstd| zstd.decompress(frame, entry.decoded_length as usize))
            .map_err(|error| self.undecodable("a zstd frame", error.to_string()))?;
        if decoded.len() as u64 != u64::from(entry.decoded_length) {
            return damage(
                "decoded_length",
                entry.decoded_length.to_string(),
                decoded.len() as u64,
            );
        }
        let per_chunk = u64::from(self.per_chunk);
        let texts = (self.texts - chunk * per_chunk).min(per_chunk) as usize;
        Chunk::new(decoded, texts).ok_or_else(|| {
            self.undecodable("a chunk of texts", format!("not exactly {texts} texts"))
        })
    }

    /// The section as it must be when there are no texts and so no chunk whose place could be checked.
    pub(crate) fn check_empty(&self) -> Result<()> {
        let found = self.bytes.len() as u64;
        if self.chunks == 0 && found != TextHeader::LEN as u64 {
            let expected = TextHeader::LEN.to_string();
            return Err(Invalid::new("length", expected, found).damage(self.place, self.offset));
        }
        Ok(())
    }
}

/// Reads texts one after the other, or with jumps, and decodes each chunk on the way once.
pub(crate) struct TextCursor<'a> {
    reader: TextReader<'a>,
    chunk: Option<(u64, Chunk)>,
}

impl<'a> TextCursor<'a> {
    pub(crate) fn new(reader: TextReader<'a>) -> Self {
        Self {
            reader,
            chunk: None,
        }
    }

    /// Text `index`.
    pub(crate) fn get(&mut self, index: u64) -> Result<&[u8]> {
        if index >= self.reader.texts {
            return Err(Error::OutOfRange {
                what: "text",
                len: self.reader.texts,
                index,
            });
        }
        let per_chunk = u64::from(self.reader.per_chunk);
        let (number, within) = (index / per_chunk, (index % per_chunk) as usize);
        let chunk = match self.chunk.take() {
            Some((decoded, chunk)) if decoded == number => chunk,
            _ => self.reader.chunk(number)?,
        };
        let (_, chunk) = self.chunk.insert((number, chunk));
        // A chunk was decoded only if it holds all its texts.
        Ok(chunk.get(within).unwrap_or_default())
    }
}

/// A decoded chunk.
struct Chunk {
    bytes: Vec<u8>,
    /// Where each text starts and ends.
    ranges: Vec<(u32, u32)>,
}

impl Chunk {
    fn new(bytes: Vec<u8>, texts: usize) -> Option<Self> {
        let mut ranges = Vec::with_capacity(texts);
        let mut at = 0;
        for _ in 0..texts {
            let length = bytes.get(at..at + 2)?;
            let start = at + 2;
            at = start + usize::from(u16::from_le_bytes([length[0], length[1]]));
            if at > bytes.len() || at - start > MAX_TEXT {
                return None;
            }
            ranges.push((start as u32, at as u32));
        }
        (at == bytes.len()).then_some(Self { bytes, ranges })
    }

    /// Text `index` of the chunk, if there is one.
    fn get(&self, index: usize) -> Option<&[u8]> {
        let &(start, end) = self.ranges.get(index)?;
        self.bytes.get(start as usize..end as usize)
    }
}
