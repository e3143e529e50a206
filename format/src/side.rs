//! What stands beside the ids: class names, labels, names, sizes.

use crate::error::{Error, Place, Result};
use crate::header::equal;
use crate::layout::Invalid;
use crate::limits::{MAX_CLASS_TEXT, MAX_CLASSES};
use crate::reader::TokenFile;
use crate::records::{CLASSES, LABELS, NAMES, NO_LABEL, SIZES};
use crate::text::{Chunk, TextReader};

impl<D: AsRef<[u8]>> TokenFile<D> {
    pub(crate) fn read_classes(&self) -> Result<Option<Vec<Vec<u8>>>> {
        let Some((section, bytes)) = self.section(CLASSES)? else {
            return Ok(None);
        };
        read_classes(
            TextReader::new(bytes, Place::Classes, section.offset)?,
            section.offset,
        )
        .map(Some)
    }

    /// The class of a picture, below the number of class names; `None` if it has none or the file has no labels.
    pub fn label(&self, picture: u64) -> Result<Option<u32>> {
        let Some((offset, [label])) = self.numbers(LABELS, picture)? else {
            return Ok(None);
        };
        let classes = self.classes().map_or(0, <[_]>::len);
        match label {
            NO_LABEL => Ok(None),
            label if (label as usize) < classes => Ok(Some(label)),
            label => Err(Invalid::new("label", format!("below {classes}"), label)
                .damage(Place::Labels, offset)),
        }
    }

    /// Original width and height of a picture in pixels, if the file keeps them.
    pub fn size(&self, picture: u64) -> Result<Option<(u32, u32)>> {
        let numbers = self.numbers(SIZES, picture)?;
        Ok(numbers.map(|(_, [width, height])| (width, height)))
    }

    /// The `N` u32 of a picture in a section, and where they start in the file.
    fn numbers<const N: usize>(&self, kind: u32, picture: u64) -> Result<Option<(u64, [u32; N])>> {
        self.picture_in_range(picture)?;
        let Some((section, bytes)) = self.section(kind)? else {
            return Ok(None);
        };
        let start = picture as usize * N * 4;
        let mut numbers = [0; N];
        let words = bytes.get(start..).unwrap_or(&[]).as_chunks::<4>().0;
        for (number, word) in numbers.iter_mut().zip(words) {
            *number = u32::from_le_bytes(*word);
        }
        Ok(Some((section.offset + start as u64, numbers)))
    }

    fn picture_in_range(&self, picture: u64) -> Result<()> {
        if picture >= self.pictures() {
            return Err(Error::OutOfRange {
                what: "picture",
                len: self.pictures(),
                index: picture,
            });
        }
        Ok(())
    }

    /// The name of a picture, if the file keeps names. Decodes up to 1,024 names to find it: to go through all, take
    /// [`TokenFile::names`].
    pub fn name(&self, picture: u64) -> Result<Option<Vec<u8>>> {
        self.picture_in_range(picture)?;
        let Some(reader) = self.name_reader()? else {
            return Ok(None);
        };
        let (chunk, index) = reader.chunk_of(picture)?;
        Ok(chunk.get(index).map(<[u8]>::to_vec))
    }

    /// The names of all pictures in order; nothing if the file keeps none. Ends after an error.
    pub fn names(&self) -> impl Iterator<Item = Result<Vec<u8>>> {
        let (reader, error) = match self.name_reader() {
            Ok(reader) => (reader, None),
            Err(error) => (None, Some(Err(error))),
        };
        error.into_iter().chain(Names {
            reader,
            next_chunk: 0,
            chunk: None,
            next: 0,
        })
    }

    pub(crate) fn name_reader(&self) -> Result<Option<TextReader<'_>>> {
        let Some((section, bytes)) = self.section(NAMES)? else {
            return Ok(None);
        };
        let reader = TextReader::new(bytes, Place::Names, section.offset)?;
        equal("texts", self.pictures(), reader.texts())
            .map_err(|e| e.damage(Place::Names, section.offset))?;
        reader.check_empty()?;
        Ok(Some(reader))
    }
}

/// Goes through names a chunk at a time.
struct Names<'a> {
    reader: Option<TextReader<'a>>,
    next_chunk: u64,
    chunk: Option<Chunk>,
    next: usize,
}

impl Iterator for Names<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(name) = self.chunk.as_ref().and_then(|chunk| chunk.get(self.next)) {
                self.next += 1;
                return Some(Ok(name.to_vec()));
            }
            let reader = self
                .reader
                .filter(|reader| self.next_chunk < reader.chunks())?;
            match reader.chunk(self.next_chunk) {
                Ok(chunk) => self.chunk = Some(chunk),
                Err(error) => {
                    self.reader = None;
                    self.chunk = None;
                    return Some(Err(error));
                }
            }
            self.next_chunk += 1;
            self.next = 0;
        }
    }
}

/// Reads all class names, which are few.
pub(crate) fn read_classes(reader: TextReader, offset: u64) -> Result<Vec<Vec<u8>>> {
    let damage = |invalid: Invalid| invalid.damage(Place::Classes, offset);
    if reader.texts() > MAX_CLASSES as u64 {
        let expected = format!("at most {MAX_CLASSES}");
        return Err(damage(Invalid::new("texts", expected, reader.texts())));
    }
    reader.check_empty()?;
    let mut classes = Vec::new();
    let mut bytes = 0;
    for number in 0..reader.chunks() {
        let chunk = reader.chunk(number)?;
        for class in (0..chunk.len()).filter_map(|index| chunk.get(index)) {
            bytes += class.len();
            classes.push(class.to_vec());
        }
        if bytes > MAX_CLASS_TEXT {
            let expected = format!("at most {MAX_CLASS_TEXT} bytes");
            return Err(damage(Invalid::new("class names", expected, bytes)));
        }
    }
    Ok(classes)
}
