//! `vqlc split`: one token file becomes several, whole pictures each, that `vqlc merge` joins again.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use vqlc_format::TokenFile;

use crate::{
    cli::{ForceArgs, OutputArgs},
    exit::Exit,
    outputs::with_force_hint,
    text,
};

const EXAMPLES: &str = "\
The shards hold consecutive pictures and are named after OUT: `train.vqt` with -n 8 gives \
`train-00000-of-00008.vqt` to `train-00007-of-00008.vqt`. `vqlc merge` of all of them in order gives \
the bytes of the file that was split.

Examples:
  vqlc split -n 8 train.vqt shards/train.vqt
  vqlc split --records 100000 train.vqt shards/train.vqt";

/// `vqlc split IN OUT -n N`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SplitArgs {
    /// The token file to split
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The name that the shards' names are made from
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// How many shards
    #[arg(short = 'n', long, value_name = "N", required_unless_present = "records", conflicts_with = "records", value_parser = clap::value_parser!(u32).range(1..=MAX_SHARDS))]
    shards: Option<u32>,
    /// As many shards as it takes for none to hold more than N records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    out: OutputArgs,
}

/// What five digits can number.
const MAX_SHARDS: i64 = 99_999;

#[derive(Serialize)]
struct Report<'a> {
    files: Vec<text::Written<'a>>,
}

pub(crate) fn run(args: SplitArgs) -> anyhow::Result<Exit> {
    let ends_in_slash = args
        .output
        .as_os_str()
        .as_encoded_bytes()
        .last()
        .is_some_and(|&last| std::path::is_separator(last.into()));
    ensure!(
        !ends_in_slash && args.output.file_name().is_some() && !args.output.is_dir(),
        "{} is a folder; give the name that the shards' names are made from, as in {}",
        args.output.display(),
        args.output.join("train.vqt").display()
    );
    let shards = match (args.shards, args.records) {
        (Some(shards), _) => shards,
        (None, Some(records)) => shards_for(&args.input, records)?,
        (None, None) => unreachable!("clap requires one of the two"),
    };
    let outputs: Vec<PathBuf> = (0..shards)
        .map(|index| shard_path(&args.output, index, shards))
        .collect();
    let summaries = vqlc_format::split(&args.input, &outputs, args.force.force)
        .map_err(with_force_hint)
        .with_context(|| format!("splitting {}", args.input.display()))?;
    if args.out.json {
        let files = outputs
            .iter()
            .zip(&summaries)
            .map(|(path, summary)| text::Written::new(path, summary))
            .collect();
        text::print_json(&Report { files })?;
    } else if !args.out.quiet {
        for (path, summary) in outputs.iter().zip(&summaries) {
            eprintln!(
                "{}: {}, {}",
                path.display(),
                text::things(summary.pictures, "picture"),
                text::bytes(summary.file_len)
            );
        }
    }
    Ok(Exit::Ok)
}

/// The least number of shards of whole pictures that keeps each at or below `records` records.
fn shards_for(input: &Path, records: u64) -> anyhow::Result<u32> {
    let file = TokenFile::open(input).with_context(|| input.display().to_string())?;
    let views = file.views().len() as u64;
    let pictures = records / views;
    ensure!(
        pictures > 0,
        "--records {records}: each picture has {views} records and is never cut"
    );
    let shards = file.pictures().div_ceil(pictures).max(1);
    ensure!(
        shards <= MAX_SHARDS as u64,
        "--records {records} would make {shards} shards, more than {MAX_SHARDS}"
    );
    Ok(shards as u32)
}

/// `train.vqt` as `train-00002-of-00008.vqt`.
fn shard_path(output: &Path, index: u32, shards: u32) -> PathBuf {
    let mut name = output.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{index:05}-of-{shards:05}"));
    if let Some(extension) = output.extension() {
        name.push(".");
        name.push(extension);
    }
    output.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_named_after_the_output() {
        assert_eq!(
            shard_path(Path::new("a/train.vqt"), 2, 8),
            Path::new("a/train-00002-of-00008.vqt")
        );
        assert_eq!(
            shard_path(Path::new("train"), 0, 1),
            Path::new("train-00000-of-00001")
        );
    }
}
