//! What is good in a damaged token file: a header or its copy, sections whose CRC is right, and blocks wherever they are.

use crate::block::{self, table_entry};
use crate::copy::{Sides, check_labels, check_texts};
use crate::error::{Error, Place, Result};
use crate::header::equal;
use crate::layout::Layout;
use crate::limits::{MAX_BLOCK, MAX_CLASSES};
use crate::reader::check_section;
use crate::records::{
    self, BLOCK_MAGIC, BLOCKS, BlockHeader, CLASSES, Footer, Header, INDEX, LABELS, METADATA,
    Metadata, NAMES, NO_LABEL, SIZES, SectionEntry,
};
use crate::report::{RecoverReport, RecoverSource};
use crate::sections::read_metadata;
use crate::side::{read_classes, read_names};
use crate::spec::Spec;
use crate::text::TextCursor;

/// How many times the bytes of a file are checked at most in the search for its blocks. A damaged file needs about one.
const MAX_EFFORT: u64 = 8;

/// A damaged file of which at least the header or its copy in the footer is good.
pub(crate) struct Salvage<'a> {
    data: &'a [u8],
    header: &'a Header,
    pub(crate) layout: Layout,
}

/// The header, or its copy in the footer; with what is wrong with the one or the other in the report.
pub(crate) fn find_header(data: &[u8]) -> Result<(Header, RecoverReport)> {
    let head = data.get(..Header::LEN).unwrap_or(data);
    let tail_at = data.len().saturating_sub(Footer::LEN);
    let footer = Footer::parse(&data[tail_at..], tail_at as u64);
    let tail = (tail_at as u64, Footer::LEN as u64);
    match (Header::decode(head, Place::Header, 0), footer) {
        (Ok(header), footer) => {
            let mut report = RecoverReport::new(RecoverSource::Header, header.pictures);
            if let Err(error) = footer {
                report.add(Place::Footer, tail.0, tail.1, error);
            }
            Ok((header, report))
        }
        (Err(error), Ok(footer)) if error.is_damage() => {
            let copy = records::encode(&footer.header).unwrap_or_default();
            let header = Header::decode(&copy, Place::Footer, tail.0)?;
            let mut report = RecoverReport::new(RecoverSource::Footer, header.pictures);
            report.add(Place::Header, 0, Header::LEN as u64, error);
            Ok((header, report))
        }
        (Err(error), _) => Err(error),
    }
}

impl<'a> Salvage<'a> {
    pub(crate) fn new(data: &'a [u8], header: &'a Header) -> Result<Self> {
        let layout = header.layout().map_err(|e| e.damage(Place::Header, 0))?;
        Ok(Self {
            data,
            header,
            layout,
        })
    }

    /// The specification of the file to be written, and what stands beside its ids. What is lost is reported and replaced
    /// as [`RecoverReport::sections_lost`] says.
    pub(crate) fn sections(&self, report: &mut RecoverReport) -> (Spec, Sides<'a>) {
        if self.header.file_length != self.data.len() as u64 {
            let (expected, found) = (self.header.file_length, self.data.len() as u64);
            report.add(Place::File, found, 0, Error::Length { expected, found });
        }
        let views = 0..self.header.views_per_picture;
        let metadata = self.section(METADATA, report, |section, bytes| {
            read_metadata(self.header.views_per_picture, section, bytes)
        });
        let metadata = metadata.unwrap_or_else(|| Metadata {
            views: views.map(|view| format!("view {view}")).collect(),
            preprocessing: Vec::new(),
        });
        let classes = self.section(CLASSES, report, read_classes);
        let known = classes.as_ref().map_or(MAX_CLASSES, Vec::len);
        let labels = self.section(LABELS, report, |section, bytes| {
            check_labels(section, bytes, known)?;
            Ok((section, bytes))
        });
        // Without class names the classes are named by number.
        let classes = labels.map(|(_, bytes)| classes.unwrap_or_else(|| numbered_classes(bytes)));
        let names = self.section(NAMES, report, |section, bytes| {
            let reader = read_names(self.header.pictures, section, bytes)?;
            check_texts(reader)?;
            Ok(TextCursor::new(reader))
        });
        let sizes = self.section(SIZES, report, |section, bytes| Ok((section, bytes)));
        for section in self.header.sections() {
            match section.kind {
                METADATA | CLASSES | BLOCKS | LABELS | NAMES | SIZES => {}
                // It is made anew, but what is wrong with it is worth telling.
                INDEX => {
                    let lost = report.sections_lost.len();
                    self.section(INDEX, report, |_, _| Ok(()));
                    report.sections_lost.truncate(lost);
                }
                // Of a newer version: even a good one cannot be written here.
                kind => {
                    if self.section(kind, report, |_, _| Ok(())).is_some() {
                        report.sections_lost.push(section.place());
                    }
                }
            }
        }
        let spec = Spec {
            codebook_size: self.layout.codebook_size,
            grid: self.layout.grid,
            views: metadata.views,
            records_per_block: Some(self.layout.records_per_block),
            digests: self.header.digests(),
            preprocessing: metadata.preprocessing,
            names: names.is_some(),
            sizes: sizes.is_some(),
            classes,
        };
        let sides = Sides {
            labels,
            names,
            sizes,
            classes: spec.classes.as_ref().map_or(0, Vec::len),
        };
        (spec, sides)
    }

    /// Reads a section if it is there and good; reports it if it is there and not good.
    fn section<T>(
        &self,
        kind: u32,
        report: &mut RecoverReport,
        read: impl FnOnce(&'a SectionEntry, &'a [u8]) -> Result<T>,
    ) -> Option<T> {
        let section = self.header.section(kind)?;
        let bytes = self.bytes(section.offset, section.length);
        let result = bytes.and_then(|bytes| {
            check_section(section, bytes)?;
            read(section, bytes)
        });
        match result {
            Ok(read) => Some(read),
            Err(error) => {
                report.add(section.place(), section.offset, section.length, error);
                report.sections_lost.push(section.place());
                None
            }
        }
    }

    fn bytes(&self, offset: u64, length: u64) -> Result<&'a [u8]> {
        let end = offset.saturating_add(length);
        self.data
            .get(offset as usize..end as usize)
            .ok_or(Error::Length {
                expected: end,
                found: self.data.len() as u64,
            })
    }

    /// Finds every good block in order and hands it to `each`; what is missing between them goes into the report.
    pub(crate) fn blocks(
        &self,
        report: &mut RecoverReport,
        mut each: impl FnMut(&BlockHeader, &'a [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut at = self
            .header
            .section(BLOCKS)
            .map_or(0, |section| section.offset);
        let views = u64::from(self.layout.views);
        let (mut next_block, mut next_record) = (0, 0);
        let mut in_gap = false;
        // What looked like a block and was none may lie within another such: only a file made for it passes this.
        let mut effort = (self.data.len() as u64).saturating_mul(MAX_EFFORT);
        while next_block < self.header.blocks && at < self.data.len() as u64 && effort > 0 {
            let found = self.block_at(at, next_block, next_record);
            let found = found.and_then(|(number, bytes)| {
                effort = effort.saturating_sub(bytes.len() as u64);
                let header = block::verify(&self.layout, bytes, number, at, None)?;
                Ok((header, bytes))
            });
            match found {
                Ok((header, bytes)) => {
                    report.lose(next_record / views..header.first_record / views);
                    each(&header, bytes)?;
                    next_block = header.number + 1;
                    next_record = header.first_record + u64::from(header.records);
                    at += bytes.len() as u64;
                    in_gap = false;
                }
                Err(error) => {
                    let start = at as usize + 1;
                    let rest = self.data.get(start..).unwrap_or(&[]);
                    let skip = rest.windows(8).position(|bytes| bytes == BLOCK_MAGIC);
                    let next = start + skip.unwrap_or(rest.len());
                    if !in_gap {
                        report.add(Place::Block(next_block), at, next as u64 - at, error);
                    }
                    in_gap = true;
                    at = next as u64;
                }
            }
        }
        report.lose(next_record / views..self.header.pictures);
        Ok(())
    }

    /// Number and bytes of what looks like a block at byte `at`, numbered `least` or above and starting with record
    /// `least_record` or above. Looks at no more than its header and the end of its record table.
    fn block_at(&self, at: u64, least: u64, least_record: u64) -> Result<(u64, &'a [u8])> {
        let head = self.bytes(at, BlockHeader::LEN as u64)?;
        let header = block::header_of(head, least, at)?;
        if header.magic != BLOCK_MAGIC {
            return Err(Error::Magic {
                place: Place::Block(least),
                offset: at,
                expected: BLOCK_MAGIC,
                found: header.magic,
            });
        }
        let behind = header.first_record.saturating_add(header.records.into());
        let first_expected = match self.layout.fixed() {
            Some(_) => header
                .number
                .saturating_mul(self.layout.records_per_block.into()),
            None => header.first_record.max(least_record),
        };
        let table = self.layout.table_length(header.records);
        let length = (BlockHeader::LEN as u64)
            .saturating_add(table)
            .saturating_add(header.payload_length);
        let is_sane = (least..self.header.blocks).contains(&header.number)
            && header.first_record == first_expected
            && behind <= self.header.records
            && (1..=self.layout.records_per_block).contains(&header.records)
            && header.first_record.is_multiple_of(self.layout.views.into())
            && header.records.is_multiple_of(self.layout.views)
            && length <= MAX_BLOCK;
        if !is_sane {
            return Err(Error::Field {
                place: Place::Block(least),
                offset: at,
                field: "number",
                expected: format!("block {least} or a later one of this file"),
                found: format!("block {}", header.number),
            });
        }
        let bytes = self.bytes(at, length)?;
        let expected = self.payload_length(bytes, &header, at)?;
        equal("payload_length", expected, header.payload_length)
            .map_err(|e| e.damage(Place::Block(least), at))?;
        Ok((header.number, bytes))
    }

    /// Bytes of the records of a block: as many as it has records, or up to the end of the last one in its table.
    fn payload_length(&self, bytes: &[u8], header: &BlockHeader, at: u64) -> Result<u64> {
        if let Some(fixed) = self.layout.fixed() {
            return Ok(u64::from(header.records) * fixed.stride);
        }
        let last = table_entry(bytes, header, header.records.saturating_sub(1), at)?;
        let length = self.layout.record_length(last.rows, last.cols);
        let length = length.map_err(|e| e.damage(Place::Block(header.number), at))?;
        let end = last.offset.saturating_add(length);
        Ok(end.saturating_sub(BlockHeader::LEN as u64))
    }
}

/// Names for the classes that occur in good labels.
fn numbered_classes(labels: &[u8]) -> Vec<Vec<u8>> {
    let labels = labels
        .as_chunks::<4>()
        .0
        .iter()
        .map(|label| u32::from_le_bytes(*label));
    let most = labels.filter(|&label| label != NO_LABEL).max();
    let count = most.map_or(0, |most| most as usize + 1);
    (0..count)
        .map(|class| format!("class {class}").into_bytes())
        .collect()
}
