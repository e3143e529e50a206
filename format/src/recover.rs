//! Saving what can be saved from a damaged or unfinished file.

use std::fs::File;
use std::path::Path;

use crate::block::table_entry;
use crate::copy::Sides;
use crate::error::{Error, Place, Result};
use crate::header::MIN_FILE;
use crate::layout::{Invalid, Layout};
use crate::mapped::Mapped;
use crate::merge::write_whole;
use crate::pack::unpack;
use crate::paths::{journal_of_partial, journal_path, partial_path, same_file};
use crate::records::{BlockHeader, Header};
use crate::report::RecoverReport;
use crate::salvage::{Salvage, find_header};
use crate::unfinished::Unfinished;
use crate::writer::Writer;

/// What [`recover`] could save of `input`; writes nothing.
///
/// A damaged file is understood by its header or by the copy in its footer; whatever block is whole is saved, wherever it
/// stands. An unfinished file (`NAME.vqt.partial`) is understood by its journal. Fails where nothing can be saved because
/// nothing says what the file is.
pub fn survey(input: &Path) -> Result<RecoverReport> {
    match open(input)? {
        Input::Unfinished(unfinished) => Ok(unfinished.report),
        Input::Damaged(data, found) => {
            let (header, mut report) = *found;
            let salvage = Salvage::new(data.as_ref(), &header)?;
            salvage.sections(&mut report);
            count_blocks(&salvage, &mut report)?;
            Ok(report)
        }
    }
}

/// Writes a token file with all that can be saved of `input`, in its order. `input` stays as it is: an output is refused
/// that is the input or its journal, or would be written where one of these is.
pub fn recover(input: &Path, output: &Path, overwrite: bool) -> Result<RecoverReport> {
    refuse_own_files(input, output)?;
    let (data, found) = match open(input)? {
        Input::Unfinished(unfinished) => return unfinished.recover(output, overwrite),
        Input::Damaged(data, found) => (data, found),
    };
    let (header, mut report) = *found;
    let salvage = Salvage::new(data.as_ref(), &header)?;
    let (spec, mut sides) = salvage.sections(&mut report);
    let written = write_whole(output, &spec, overwrite, |writer| {
        salvage.blocks(&mut report, |header, bytes| {
            copy_block(&salvage.layout, header, bytes, &mut sides, writer)
        })
    })?;
    report.pictures_saved = written.pictures;
    report.records_saved = written.records;
    report.written = Some(written);
    Ok(report)
}

/// Whatever way leads to them: `output`, its partial file and its journal must not be the input or the input's journal.
fn refuse_own_files(input: &Path, output: &Path) -> Result<()> {
    for written in [output, &partial_path(output), &journal_path(output)] {
        for read in [input, &journal_of_partial(input)] {
            if same_file(written, read).map_err(Error::io("look for", written))? {
                let expected = "another file than the input \
                    (resume it with compress --resume, or recover to another name)";
                let found = format!("{}, which writes to {}", output.display(), read.display());
                return Err(Error::argument("output", expected, found));
            }
        }
    }
    Ok(())
}

enum Input {
    Damaged(Mapped, Box<(Header, RecoverReport)>),
    Unfinished(Box<Unfinished>),
}

fn open(input: &Path) -> Result<Input> {
    let io = |error| Error::io("open", input)(error);
    let metadata = std::fs::metadata(input).map_err(io)?;
    if !metadata.is_file() {
        return Err(Error::argument("input", "a file", input.display()));
    }
    let unreadable = if metadata.len() < Header::LEN as u64 {
        Error::TooShort {
            expected: MIN_FILE,
            found: metadata.len(),
        }
    } else {
        let data = Mapped::new(&File::open(input).map_err(io)?).map_err(Error::io("map", input))?;
        match find_header(data.as_ref()) {
            Ok(found) => return Ok(Input::Damaged(data, Box::new(found))),
            Err(error) => error,
        }
    };
    match Unfinished::open(input)? {
        Some(unfinished) => Ok(Input::Unfinished(Box::new(unfinished))),
        None => Err(unreadable),
    }
}

fn count_blocks(salvage: &Salvage, report: &mut RecoverReport) -> Result<()> {
    let mut records = 0;
    salvage.blocks(report, |header, _| {
        records += u64::from(header.records);
        Ok(())
    })?;
    report.records_saved = records;
    report.pictures_saved = records / u64::from(salvage.layout.views);
    Ok(())
}

/// Copies the pictures of a good block.
fn copy_block(
    layout: &Layout,
    header: &BlockHeader,
    bytes: &[u8],
    sides: &mut Sides,
    writer: &mut Writer,
) -> Result<()> {
    let views = layout.views;
    let place = Place::Block(header.number);
    let damage = |e: Invalid| e.damage(place, 0);
    let mut at = BlockHeader::LEN;
    let mut ids = Vec::new();
    for picture in 0..header.records / views {
        ids.clear();
        let mut shape = (0, 0);
        for record in picture * views..(picture + 1) * views {
            shape = match layout.fixed() {
                Some(fixed) => (fixed.rows, fixed.cols),
                None => {
                    let entry = table_entry(bytes, header, record, 0)?;
                    (entry.rows, entry.cols)
                }
            };
            let length = layout.record_length(shape.0, shape.1).map_err(damage)? as usize;
            let start = ids.len();
            ids.resize(start + shape.0 as usize * shape.1 as usize, 0);
            // The block was verified: its records are within it.
            unpack(&bytes[at..at + length], layout.bits, &mut ids[start..]);
            at += length;
        }
        let number = header.first_record / u64::from(views) + u64::from(picture);
        sides.push(number, shape, &ids, writer)?;
    }
    Ok(())
}
