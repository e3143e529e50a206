//! Copying pictures from one token file to another with all that stands beside their ids.

use std::ops::Range;

use crate::error::{Place, Result};
use crate::layout::Invalid;
use crate::reader::TokenFile;
use crate::records::{LABELS, NO_LABEL, SIZES, SectionEntry};
use crate::spec::Picture;
use crate::text::{TextCursor, TextReader};
use crate::writer::Writer;

/// Labels, names and sizes of a file, as far as it has them and they are good.
#[derive(Default)]
pub(crate) struct Sides<'a> {
    pub(crate) labels: Option<(&'a SectionEntry, &'a [u8])>,
    pub(crate) names: Option<TextCursor<'a>>,
    pub(crate) sizes: Option<(&'a SectionEntry, &'a [u8])>,
    /// Class names there are: labels are below it.
    pub(crate) classes: usize,
}

impl<'a> Sides<'a> {
    fn of<D: AsRef<[u8]>>(file: &'a TokenFile<D>) -> Result<Self> {
        Ok(Self {
            labels: file.section(LABELS)?,
            names: file.name_reader()?.map(TextCursor::new),
            sizes: file.section(SIZES)?,
            classes: file.classes().map_or(0, <[_]>::len),
        })
    }

    /// Hands picture number `picture`, whose ids are given, to a writer.
    pub(crate) fn push(
        &mut self,
        picture: u64,
        (rows, cols): (u32, u32),
        ids: &[u32],
        writer: &mut Writer,
    ) -> Result<()> {
        let label = match self.labels {
            Some((section, bytes)) => label(section, bytes, picture, self.classes)?,
            None => None,
        };
        let [width, height] = self
            .sizes
            .map_or([0, 0], |(_, bytes)| numbers(bytes, picture));
        let picture = Picture {
            name: match &mut self.names {
                Some(names) => names.get(picture)?,
                None => &[],
            },
            label,
            width,
            height,
            rows,
            cols,
            ids,
        };
        writer.push(writer.next_position(), &picture)
    }
}

/// The `N` u32 of a picture in a section of so many for each; zeros behind its end.
pub(crate) fn numbers<const N: usize>(bytes: &[u8], picture: u64) -> [u32; N] {
    let start = (picture as usize).saturating_mul(N * 4);
    let words = bytes.get(start..).unwrap_or(&[]).as_chunks::<4>().0;
    let mut numbers = [0; N];
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = u32::from_le_bytes(*word);
    }
    numbers
}

/// The label of a picture, which must be below the number of classes or none.
pub(crate) fn label(
    section: &SectionEntry,
    bytes: &[u8],
    picture: u64,
    classes: usize,
) -> Result<Option<u32>> {
    match numbers(bytes, picture) {
        [NO_LABEL] => Ok(None),
        [label] if (label as usize) < classes => Ok(Some(label)),
        [label] => Err(
            Invalid::new("label", format!("below {classes}"), label).damage(
                Place::Labels,
                section.offset.saturating_add(picture.saturating_mul(4)),
            ),
        ),
    }
}

/// Checks that each label is in range.
pub(crate) fn check_labels(section: &SectionEntry, bytes: &[u8], classes: usize) -> Result<()> {
    let pictures = (bytes.len() / 4) as u64;
    (0..pictures).try_for_each(|picture| label(section, bytes, picture, classes).map(|_| ()))
}

/// Checks that each text can be decoded.
pub(crate) fn check_texts(reader: TextReader) -> Result<()> {
    let texts = reader.texts();
    let mut cursor = TextCursor::new(reader);
    (0..texts).try_for_each(|index| cursor.get(index).map(|_| ()))
}

/// Copies a range of pictures to the end of a writer.
pub(crate) fn copy<D: AsRef<[u8]>>(
    file: &TokenFile<D>,
    pictures: Range<u64>,
    writer: &mut Writer,
) -> Result<()> {
    let mut sides = Sides::of(file)?;
    let (mut view, mut ids) = (Vec::new(), Vec::new());
    let views = u64::from(file.layout.views);
    for picture in pictures {
        ids.clear();
        let mut shape = (0, 0);
        for record in picture * views..(picture + 1) * views {
            shape = file.get(record, &mut view)?;
            ids.extend_from_slice(&view);
        }
        sides.push(picture, shape, &ids, writer)?;
    }
    Ok(())
}
