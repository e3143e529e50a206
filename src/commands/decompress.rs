//! `vqlc decompress`: token file in, pictures out.

mod naming;
mod plan;
mod select;
mod stages;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;
use vqlc_format::TokenFile;
use vqlc_model::image::{JPEG_QUALITY, OutFormat, Preprocessing};

use crate::cli::{ForceArgs, ModelFileArgs, NetworkArgs, OutputArgs, ThreadArgs};
use crate::exit::Exit;
use crate::memory::MemoryArgs;
use crate::report::{self, Reporter};
use crate::same_model;
use crate::{default_model, interrupt, text};
use plan::Plan;
use stages::{Done, Stages};

const EXAMPLES: &str = "\
Examples:
  vqlc decompress photos.vqt pictures              every picture, as PNG, under its recorded path
  vqlc decompress --select 0..10 photos.vqt first  the first ten
  vqlc decompress --select 'cats/*' --format jpeg --quality 90 train.vqt cats
  vqlc decompress --view center train.vqt out      one view of several

Names: a.jpg comes back as a.png. Where two pictures would get one name, as a.jpg and a.png would, \
they keep their extension: a.jpg.png and a.png. Files with several views get the view in the name: \
a.center.png, a.center-flip.png. Pictures without names are numbered: 000000.png. Nothing is written \
outside OUTDIR or through a link in it.";

/// Turn a token file back into pictures
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DecompressArgs {
    /// The token file
    #[arg(value_name = "IN.vqt")]
    input: PathBuf,
    /// The folder for the pictures; made if it is not there
    #[arg(value_name = "OUTDIR")]
    folder: PathBuf,

    /// What to write: png, jpeg or webp (lossless)
    #[arg(long, value_name = "FORMAT", default_value = "png")]
    format: OutFormat,
    /// Quality of JPEG pictures, 1 to 100 [default: 95]
    #[arg(long, value_name = "Q", value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: Option<u8>,
    /// Only these pictures: a number, a range as 0..10, a name, a folder or a glob; may be repeated
    #[arg(long, value_name = "WHICH")]
    select: Vec<String>,
    /// Only this view of each picture; may be repeated
    #[arg(long, value_name = "VIEW")]
    view: Vec<String>,
    /// Leave pictures that are there already as they are, and go on with the others
    #[arg(long, conflicts_with = "force")]
    skip_existing: bool,
    /// Pictures the network takes at once, on a GPU twice as many by turns [default: two a thread, at least 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: Option<u16>,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    model: ModelFileArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The final report; also what `--json` prints.
#[derive(Serialize)]
struct Report {
    output: String,
    pictures: u64,
    files: u64,
    skipped: Vec<Skipped>,
    existing: u64,
    other_decoder: bool,
    bytes_in: u64,
    bytes_out: u64,
    seconds: f64,
    pictures_per_second: f64,
}

/// A picture that was not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Skipped {
    name: String,
    reason: String,
}

pub(crate) fn run(args: DecompressArgs) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let reporter = Reporter::new(&args.output);
    let threads = args.threads.apply()?;
    let format = match (args.format, args.quality) {
        (OutFormat::Jpeg { .. }, quality) => OutFormat::Jpeg {
            quality: quality.unwrap_or(JPEG_QUALITY),
        },
        (format, None) => format,
        (format, Some(_)) => bail!("--quality goes with --format jpeg; {format} is lossless"),
    };
    let shown = args.input.display();
    let file = TokenFile::open(&args.input).with_context(|| shown.to_string())?;
    let plan = Plan::new(
        &file,
        &args.folder,
        &args.select,
        &args.view,
        format.extension(),
    )?;

    interrupt::install()?;
    let tokenizer = default_model::load(&args.model, &args.network)?;
    let comparison = same_model::expect(&args.input, file.digests(), &tokenizer)?;
    if comparison.other_decoder {
        reporter.note(&format!("note: {shown} was made with another decoder of the same tokenizer; the pictures may look a little different"));
    }
    let preprocessing =
        Preprocessing::from_bytes(file.preprocessing()).with_context(|| shown.to_string())?;
    ensure!(
        preprocessing.factor() as usize == tokenizer.factor(),
        "{shown}: a token stands for {} pixels a side in the file and for {} in the model",
        preprocessing.factor(),
        tokenizer.factor()
    );
    let existing = existing(&args, &plan, &file)?;
    if args.folder.exists() {
        ensure!(
            args.folder.is_dir(),
            "{} is not a folder",
            args.folder.display()
        );
    }

    let progress = reporter.progress("decompressing", plan.files(), 0);
    let stages = Stages {
        file: &file,
        plan: &plan,
        tokenizer: &tokenizer,
        preprocessing: &preprocessing,
        format,
        threads,
        batch: args.batch.map_or((2 * threads).max(8), usize::from),
        memory: args.memory.limit(),
        replace: args.force.force,
        skip_existing: args.skip_existing,
        progress: &progress,
    };
    let result = stages.run();
    progress.finish();
    let done = result
        .with_context(|| shown.to_string())
        .inspect_err(|err| {
            if crate::exit::code_of(err) == Exit::Damaged {
                report::say("vqlc: `vqlc recover` saves the pictures that are whole");
            }
        })?;
    if interrupt::requested() && done.seen < plan.files() {
        report::say(&format!(
            "vqlc: interrupted after {} of {} files; the same command with --skip-existing goes on from there",
            text::count(done.seen),
            text::count(plan.files())
        ));
        return Ok(Exit::Interrupted);
    }
    finish(
        &args,
        &reporter,
        &plan,
        done,
        existing,
        comparison.other_decoder,
        started,
    )
}

/// How many files are there already; an error if that is not wanted.
fn existing<D: AsRef<[u8]>>(
    args: &DecompressArgs,
    plan: &Plan,
    file: &TokenFile<D>,
) -> anyhow::Result<u64> {
    let mut count = 0;
    let mut first = None;
    for (picture, view) in plan.records() {
        if let Ok(place) = plan.place(file, picture, view)?.1
            && place.symlink_metadata().is_ok()
        {
            count += 1;
            first.get_or_insert(place);
        }
    }
    if let Some(first) = first.filter(|_| !args.force.force && !args.skip_existing) {
        let more = if count > 1 {
            format!(" (and {} more)", text::count(count - 1))
        } else {
            String::new()
        };
        bail!(
            "{} exists already{more}; --force replaces, --skip-existing leaves what is there",
            first.display()
        );
    }
    Ok(count)
}

fn finish(
    args: &DecompressArgs,
    reporter: &Reporter,
    plan: &Plan,
    done: Done,
    existing: u64,
    other_decoder: bool,
    started: Instant,
) -> anyhow::Result<Exit> {
    let seconds = started.elapsed().as_secs_f64();
    let result = Report {
        output: args.folder.display().to_string(),
        pictures: plan.pictures(),
        files: done.files,
        existing: if args.skip_existing { existing } else { 0 },
        other_decoder,
        bytes_in: std::fs::metadata(&args.input).map_or(0, |m| m.len()),
        bytes_out: done.bytes,
        seconds,
        pictures_per_second: done.files as f64 / seconds.max(1e-9),
        skipped: done.skipped,
    };
    if args.output.json {
        text::print_json(&result)?;
    }
    reporter.note(&format!(
        "{}: {} of {}, {}; {}, {:.1} pictures/s",
        result.output,
        text::things(result.files, "file"),
        text::things(result.pictures, "picture"),
        text::bytes(result.bytes_out),
        report::span(seconds),
        result.pictures_per_second
    ));
    if result.existing > 0 {
        reporter.note(&format!(
            "  {} there already",
            text::things(result.existing, "file")
        ));
    }
    if result.skipped.is_empty() {
        return Ok(Exit::Ok);
    }
    report::say(&format!(
        "vqlc: {} not written",
        text::things(result.skipped.len() as u64, "file")
    ));
    Ok(Exit::Skipped)
}
