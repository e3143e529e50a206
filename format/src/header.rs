//! Header and footer: reading them with every check that needs no other part of the file.

use crate::digest::Digests;
use crate::error::{Error, Place, Result};
use crate::layout::{Invalid, Layout};
use crate::limits::MAX_BLOCKS;
use crate::records::{
    self, BLOCKS, CLASSES, END_MAGIC, Footer, Header, INDEX, IndexEntry, LABELS, MAGIC, METADATA,
    NAMES, REQUIRED_FLAGS, SIZES, SectionEntry, TextHeader, VERSION_MAJOR, VERSION_MINOR,
};
use crate::spec::Grid;

/// Bytes of the smallest token file: header, a metadata section of two empty lists, an index of no block, footer.
pub const MIN_FILE: u64 = (Header::LEN + 16 + Footer::LEN) as u64;

impl SectionEntry {
    /// The entry of an unused slot.
    pub(crate) const UNUSED: Self = Self {
        kind: 0,
        crc32: 0,
        offset: 0,
        length: 0,
    };

    /// Its name for messages.
    pub fn place(&self) -> Place {
        match self.kind {
            METADATA => Place::Metadata,
            CLASSES => Place::Classes,
            INDEX => Place::Index,
            LABELS => Place::Labels,
            NAMES => Place::Names,
            SIZES => Place::Sizes,
            other => Place::Section(other),
        }
    }

    /// First byte behind it; [`Header::parse`] has checked that this does not overflow.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

impl Header {
    /// Whether a newer minor version wrote the file, which may use what is spare in this one.
    fn is_newer(&self) -> bool {
        self.version_minor > VERSION_MINOR
    }

    /// The grid of the records.
    pub fn grid(&self) -> Grid {
        match (self.grid_rows, self.grid_cols) {
            (0, 0) => Grid::Varying,
            (rows, cols) => Grid::Fixed { rows, cols },
        }
    }

    /// The four digests.
    pub fn digests(&self) -> Digests {
        Digests {
            codebook: self.codebook_digest,
            encoder: self.encoder_digest,
            decoder: self.decoder_digest,
            source: self.source_digest,
        }
    }

    /// The sections in file order.
    pub fn sections(&self) -> &[SectionEntry] {
        let used = self.sections.iter().take_while(|section| section.kind != 0);
        &self.sections[..used.count()]
    }

    /// The section of a kind, if the file has it.
    pub fn section(&self, kind: u32) -> Option<&SectionEntry> {
        self.sections().iter().find(|section| section.kind == kind)
    }

    pub(crate) fn layout(&self) -> Result<Layout, Invalid> {
        let views = self.views_per_picture as usize;
        Layout::new(
            self.codebook_size,
            self.grid(),
            views,
            Some(self.records_per_block),
        )
    }

    /// The bytes, with the CRC computed.
    pub(crate) fn seal(&mut self) -> Result<Vec<u8>> {
        with_crc(self, Place::Header, |header, crc| header.crc32 = crc, 0)
    }

    /// Reads the header at the start of `start` and checks all that can be checked without reading on: magic, CRC,
    /// version, flags, that the file has the declared `file_length`, and that the sections follow each other without
    /// holes or overlap from the header's end to the footer.
    pub(crate) fn parse(start: &[u8], file_length: u64) -> Result<Self> {
        let bytes = match start.get(..Self::LEN) {
            Some(bytes) if file_length >= MIN_FILE => bytes,
            _ => {
                return Err(Error::TooShort {
                    expected: MIN_FILE,
                    found: file_length,
                });
            }
        };
        let header = Self::decode(bytes, Place::Header, 0)?;
        if header.file_length != file_length {
            return Err(Error::Length {
                expected: header.file_length,
                found: file_length,
            });
        }
        Ok(header)
    }

    /// [`Self::parse`] without the file's length, for the footer's copy and for files that were cut.
    pub(crate) fn decode(bytes: &[u8], place: Place, offset: u64) -> Result<Self> {
        let header: Self = records::decode(bytes).map_err(|found| Error::Decode {
            place,
            offset,
            expected: "a header",
            found,
        })?;
        if header.magic != MAGIC {
            return Err(Error::Magic {
                place,
                offset,
                expected: MAGIC,
                found: header.magic,
            });
        }
        check_crc(bytes, Self::LEN - 4, header.crc32, place, offset)?;
        if header.version_major != VERSION_MAJOR {
            return Err(Error::UnsupportedVersion {
                expected: VERSION_MAJOR,
                major: header.version_major,
                minor: header.version_minor,
            });
        }
        if header.required_flags & !REQUIRED_FLAGS != 0 {
            return Err(Error::RequiredFlags {
                known: REQUIRED_FLAGS,
                found: header.required_flags,
            });
        }
        header
            .check_counts()
            .and_then(|()| header.check_sections())
            .map_err(|e| e.damage(place, offset))?;
        Ok(header)
    }

    fn check_counts(&self) -> Result<(), Invalid> {
        let layout = self.layout()?;
        equal("header_length", Self::LEN as u64, self.header_length.into())?;
        equal("bits_per_id", layout.bits.into(), self.bits_per_id.into())?;
        if !self.is_newer() {
            equal("reserved", 0, self.reserved.into())?;
            equal(
                "spare",
                0,
                self.spare.iter().map(|&byte| u64::from(byte)).sum(),
            )?;
        }
        let records = self.pictures.checked_mul(self.views_per_picture.into());
        if records != Some(self.records) {
            let expected = format!(
                "{} pictures of {} views",
                self.pictures, self.views_per_picture
            );
            return Err(Invalid::new("records", expected, self.records));
        }
        if self.blocks > MAX_BLOCKS {
            return Err(Invalid::new(
                "blocks",
                format!("at most {MAX_BLOCKS}"),
                self.blocks,
            ));
        }
        let least = self.records.div_ceil(self.records_per_block.into());
        let most = match layout.grid {
            Grid::Fixed { .. } => least,
            Grid::Varying => self.pictures,
        };
        if !(least..=most).contains(&self.blocks) {
            return Err(Invalid::new(
                "blocks",
                format!("{least} to {most}"),
                self.blocks,
            ));
        }
        Ok(())
    }

    fn check_sections(&self) -> Result<(), Invalid> {
        let used = self.sections();
        equal(
            "section_count",
            used.len() as u64,
            self.section_count.into(),
        )?;
        if self.sections[used.len()..]
            .iter()
            .any(|&section| section != SectionEntry::UNUSED)
        {
            return Err(Invalid::new(
                "sections",
                "zero in unused entries",
                "other bytes",
            ));
        }
        let mut end = Self::LEN as u64;
        let mut kind = 0;
        for section in used {
            if section.kind <= kind || (section.kind > SIZES && !self.is_newer()) {
                let expected = format!("a known kind above {kind}");
                return Err(Invalid::new("section kind", expected, section.kind));
            }
            kind = section.kind;
            equal("section offset", end, section.offset)?;
            end = section.offset.checked_add(section.length).ok_or_else(|| {
                Invalid::new("section length", "an end below 2^64", section.length)
            })?;
            self.check_length(section)?;
        }
        for kind in [METADATA, BLOCKS, INDEX] {
            if self.section(kind).is_none() {
                return Err(Invalid::new(
                    "sections",
                    format!("a section of kind {kind}"),
                    "none",
                ));
            }
        }
        if self.section(CLASSES).is_some() != self.section(LABELS).is_some() {
            return Err(Invalid::new(
                "sections",
                "labels and class names together",
                "one of them",
            ));
        }
        let footer = self.file_length.checked_sub(Footer::LEN as u64);
        equal("end of the last section", footer.unwrap_or(0), end)
    }

    /// Checks the length of a section as far as the counts give it.
    fn check_length(&self, section: &SectionEntry) -> Result<(), Invalid> {
        let times = |count: u64, size: usize| {
            count
                .checked_mul(size as u64)
                .ok_or_else(|| Invalid::new("section length", "below 2^64", count))
        };
        match section.kind {
            INDEX => equal(
                "index length",
                times(self.blocks, IndexEntry::LEN)?,
                section.length,
            ),
            LABELS => equal("label length", times(self.pictures, 4)?, section.length),
            SIZES => equal("size length", times(self.pictures, 8)?, section.length),
            NAMES | CLASSES if section.length < TextHeader::LEN as u64 => {
                let expected = format!("at least {}", TextHeader::LEN);
                Err(Invalid::new("text length", expected, section.length))
            }
            BLOCKS => {
                equal("block checksum", 0, section.crc32.into())?;
                let Some(fixed) = self.layout()?.fixed() else {
                    return Ok(());
                };
                let heads = times(self.blocks, crate::records::BlockHeader::LEN)?;
                let ids = times(self.records, fixed.stride as usize)?;
                equal("block length", heads.saturating_add(ids), section.length)
            }
            _ => Ok(()),
        }
    }
}

impl Footer {
    /// The bytes, with the CRC computed.
    pub(crate) fn seal(&mut self) -> Result<Vec<u8>> {
        with_crc(
            self,
            Place::Footer,
            |footer, crc| footer.crc32 = crc,
            END_MAGIC.len(),
        )
    }

    /// Reads a footer, which starts at byte `offset` of the file.
    pub(crate) fn parse(bytes: &[u8], offset: u64) -> Result<Self> {
        let place = Place::Footer;
        let footer: Self = records::decode(bytes).map_err(|found| Error::Decode {
            place,
            offset,
            expected: "a footer",
            found,
        })?;
        if footer.magic != END_MAGIC {
            return Err(Error::Magic {
                place,
                offset: offset.saturating_add((Self::LEN - END_MAGIC.len()) as u64),
                expected: END_MAGIC,
                found: footer.magic,
            });
        }
        check_crc(
            bytes,
            Self::LEN - END_MAGIC.len() - 4,
            footer.crc32,
            place,
            offset,
        )?;
        if !footer.header.is_newer() {
            equal("reserved", 0, footer.reserved.into()).map_err(|e| e.damage(place, offset))?;
        }
        Ok(footer)
    }
}

/// Encodes a record that holds the CRC of all its bytes before the CRC; `behind` bytes follow the CRC.
fn with_crc<T: bincode::Encode>(
    record: &mut T,
    place: Place,
    set_crc: impl Fn(&mut T, u32),
    behind: usize,
) -> Result<Vec<u8>> {
    let encode = |record: &T| {
        records::encode(record).map_err(|found| Error::Decode {
            place,
            offset: 0,
            expected: "a record within its limit",
            found,
        })
    };
    let bytes = encode(record)?;
    set_crc(record, crc32fast::hash(&bytes[..bytes.len() - 4 - behind]));
    encode(record)
}

fn check_crc(bytes: &[u8], at: usize, expected: u32, place: Place, offset: u64) -> Result<()> {
    let found = crc32fast::hash(&bytes[..at]);
    if found != expected {
        return Err(Error::Checksum {
            place,
            offset,
            expected,
            found,
        });
    }
    Ok(())
}

pub(crate) fn equal(field: &'static str, expected: u64, found: u64) -> Result<(), Invalid> {
    if expected != found {
        return Err(Invalid::new(field, expected.to_string(), found));
    }
    Ok(())
}
