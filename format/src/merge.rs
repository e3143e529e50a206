//! Shards: merging them into the file of one run, and splitting a file into them.

use std::path::{Path, PathBuf};

use crate::copy::copy;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::output::{refuse_in_the_way, remove_unfinished};
use crate::reader::TokenFile;
use crate::spec::{Spec, Summary};
use crate::writer::Writer;

/// Merges token files in the order given. Files made alike from contiguous ranges of one list give the bytes that one run
/// over the whole list gives. Files that were not made alike are refused with [`Error::MergeMismatch`], damaged ones with
/// what is wrong with them; no output and no partial output is left then.
pub fn merge(inputs: &[PathBuf], output: &Path, overwrite: bool) -> Result<Summary> {
    let Some(first) = inputs.first() else {
        return Err(Error::argument("inputs", "at least one file", "none"));
    };
    let spec = TokenFile::open(first)?.spec();
    for input in inputs {
        refuse_difference(input, &spec, &TokenFile::open(input)?.spec())?;
    }
    write_whole(output, &spec, overwrite, |writer| {
        for input in inputs {
            let file = TokenFile::open(input)?;
            refuse_difference(input, &spec, &file.spec())?;
            copy(&file, 0..file.pictures(), writer)?;
        }
        Ok(())
    })
}

/// Splits a token file into contiguous parts of nearly equal numbers of pictures: part k of n gets the pictures from
/// `k * pictures / n` on, rounded down. Merging the parts in order gives the file's bytes again. Nothing is written if any
/// output is in the way.
pub fn split(input: &Path, outputs: &[PathBuf], overwrite: bool) -> Result<Vec<Summary>> {
    if outputs.is_empty() {
        return Err(Error::argument("outputs", "at least one file", "none"));
    }
    let mut sorted: Vec<_> = outputs.iter().collect();
    sorted.sort();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        let found = format!("{} twice", pair[0].display());
        return Err(Error::argument("outputs", "different files", found));
    }
    let file = TokenFile::open(input)?;
    let spec = file.spec();
    // All of them before the first is written: a split is done whole or not at all.
    for output in outputs {
        refuse_in_the_way(output, overwrite)?;
    }
    let start = |part: usize| {
        // At most the number of pictures, so it fits.
        (part as u128 * u128::from(file.pictures()) / outputs.len() as u128) as u64
    };
    let write = |(part, output): (usize, &PathBuf)| {
        write_whole(output, &spec, overwrite, |writer| {
            copy(&file, start(part)..start(part + 1), writer)
        })
    };
    outputs.iter().enumerate().map(write).collect()
}

/// Writes a file in one go. Such a job is begun anew rather than resumed, so a failure leaves nothing behind.
pub(crate) fn write_whole(
    output: &Path,
    spec: &Spec,
    overwrite: bool,
    fill: impl FnOnce(&mut Writer) -> Result<()>,
) -> Result<Summary> {
    let mut writer = Writer::create(output, spec, Digest::default(), overwrite)?;
    let result = match fill(&mut writer) {
        Ok(()) => {
            let positions = writer.next_position();
            writer.finish(positions)
        }
        Err(error) => Err(error),
    };
    result.inspect_err(|_| remove_unfinished(output))
}

fn refuse_difference(path: &Path, first: &Spec, found: &Spec) -> Result<()> {
    let classes = |spec: &Spec| spec.classes.as_ref().map(Vec::len);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let differences = [
        (
            "codebook size",
            first.codebook_size.to_string(),
            found.codebook_size.to_string(),
        ),
        (
            "codebook digest",
            first.digests.codebook.to_string(),
            found.digests.codebook.to_string(),
        ),
        (
            "encoder digest",
            first.digests.encoder.to_string(),
            found.digests.encoder.to_string(),
        ),
        (
            "decoder digest",
            first.digests.decoder.to_string(),
            found.digests.decoder.to_string(),
        ),
        (
            "static codebook digest",
            first.digests.source.to_string(),
            found.digests.source.to_string(),
        ),
        (
            "grid",
            format!("{:?}", first.grid),
            format!("{:?}", found.grid),
        ),
        (
            "views",
            format!("{:?}", first.views),
            format!("{:?}", found.views),
        ),
        (
            "records of a block",
            format!("{:?}", first.records_per_block),
            format!("{:?}", found.records_per_block),
        ),
        (
            "preprocessing",
            text(&first.preprocessing),
            text(&found.preprocessing),
        ),
        (
            "number of class names",
            format!("{:?}", classes(first)),
            format!("{:?}", classes(found)),
        ),
        (
            "whether names are kept",
            first.names.to_string(),
            found.names.to_string(),
        ),
        (
            "whether sizes are kept",
            first.sizes.to_string(),
            found.sizes.to_string(),
        ),
    ];
    let differs = differences
        .into_iter()
        .find(|(_, expected, found)| expected != found);
    let (what, expected, found) = match differs {
        Some(difference) => difference,
        None if first == found => return Ok(()),
        // Equal in number or as shown, and yet not the same bytes.
        None => (
            "class names or preprocessing",
            "the first file's".into(),
            "others".into(),
        ),
    };
    Err(Error::MergeMismatch {
        path: path.to_owned(),
        what,
        expected,
        found,
    })
}
