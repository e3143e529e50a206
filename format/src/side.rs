//! What stands beside the ids: class names, labels, names, sizes.

use crate::copy::{label, numbers};
use crate::error::{Error, Place, Result};
use crate::header::equal;
use crate::layout::Invalid;
use crate::limits::{MAX_CLASS_TEXT, MAX_CLASSES};
use crate::reader::TokenFile;
use crate::records::{CLASSES, LABELS, NAMES, SIZES, SectionEntry};
use crate::text::{TextCursor, TextReader};

impl<D: AsRef<[u8]>> TokenFile<D> {
    pub(crate) fn read_classes(&self) -> Result<Option<Vec<Vec<u8>>>> {
        let Some((section, bytes)) = self.section(CLASSES)? else {
            return Ok(None);
        };
        read_classes(section, bytes).map(Some)
    }

    /// The class of a picture, below the number of class names; `None` if it has none or the file has no labels.
    pub fn label(&self, picture: u64) -> Result<Option<u32>> {
        self.picture_in_range(picture)?;
        let classes = self.classes().map_or(0, <[_]>::len);
        match self.section(LABELS)? {
            Some((section, bytes)) => label(section, bytes, picture, classes),
            None => Ok(None),
        }
    }

    /// Original width and height of a picture in pixels, if the file keeps them.
    pub fn size(&self, picture: u64) -> Result<Option<(u32, u32)>> {
        self.picture_in_range(picture)?;
        let section = self.section(SIZES)?;
        Ok(section.map(|(_, bytes)| {
            let [width, height] = numbers(bytes, picture);
            (width, height)
        }))
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
        TextCursor::new(reader)
            .get(picture)
            .map(|name| Some(name.to_vec()))
    }

    /// The names of all pictures in order; nothing if the file keeps none. Ends after an error.
    pub fn names(&self) -> impl Iterator<Item = Result<Vec<u8>>> {
        let (reader, error) = match self.name_reader() {
            Ok(reader) => (reader, None),
            Err(error) => (None, Some(Err(error))),
        };
        let texts = reader.as_ref().map_or(0, TextReader::texts);
        let mut cursor = reader.map(TextCursor::new);
        let names = (0..texts).map_while(move |index| {
            let name = cursor.as_mut()?.get(index).map(<[u8]>::to_vec);
            if name.is_err() {
                cursor = None;
            }
            Some(name)
        });
        error.into_iter().chain(names)
    }

    pub(crate) fn name_reader(&self) -> Result<Option<TextReader<'_>>> {
        let section = self.section(NAMES)?;
        section
            .map(|(section, bytes)| read_names(self.pictures(), section, bytes))
            .transpose()
    }
}

/// Opens the name section of a file of so many pictures.
pub(crate) fn read_names<'a>(
    pictures: u64,
    section: &SectionEntry,
    bytes: &'a [u8],
) -> Result<TextReader<'a>> {
    let reader = TextReader::new(bytes, Place::Names, section.offset)?;
    equal("texts", pictures, reader.texts()).map_err(|e| e.damage(Place::Names, section.offset))?;
    reader.check_empty()?;
    Ok(reader)
}

/// Reads all class names, which are few.
pub(crate) fn read_classes(section: &SectionEntry, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let damage = |invalid: Invalid| invalid.damage(Place::Classes, section.offset);
    let reader = TextReader::new(bytes, Place::Classes, section.offset)?;
    if reader.texts() > MAX_CLASSES as u64 {
        let expected = format!("at most {MAX_CLASSES}");
        return Err(damage(Invalid::new("texts", expected, reader.texts())));
    }
    reader.check_empty()?;
    let mut classes = Vec::new();
    let mut bytes = 0;
    let mut cursor = TextCursor::new(reader);
    for number in 0..reader.texts() {
        let class = cursor.get(number)?;
        bytes += class.len();
        classes.push(class.to_vec());
        if bytes > MAX_CLASS_TEXT {
            let expected = format!("at most {MAX_CLASS_TEXT} bytes");
            return Err(damage(Invalid::new("class names", expected, bytes)));
        }
    }
    Ok(classes)
}
