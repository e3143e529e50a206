//! `vqlc recover`: what can be saved of a damaged or unfinished token file goes into a new one.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use vqlc_format::{RecoverReport, RecoverSource};

use crate::{
    cli::{ForceArgs, OutputArgs},
    exit::Exit,
    outputs::with_force_hint,
    report::{Reporter, say},
    text,
};

const EXAMPLES: &str = "\
Every picture whose bytes are all right is kept; what is lost is said. IN is never changed, and may \
also be the `.partial` that a killed `compress` left behind (`compress --resume` is better where the \
pictures are still there). The exit code is 0 if nothing was lost and 3 if something was.

Examples:
  vqlc recover damaged.vqt saved.vqt
  vqlc recover train.vqt.partial saved.vqt";

/// `vqlc recover IN OUT`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecoverArgs {
    /// The damaged or unfinished token file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The token file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    out: OutputArgs,
}

/// What can be saved, or was, as JSON says it.
#[derive(Serialize)]
pub(crate) struct Saved<'a> {
    /// Where it was learnt what the file is: "header", "footer" or "journal".
    learnt_from: &'static str,
    pictures: u64,
    pictures_saved: u64,
    records_saved: u64,
    /// Lost pictures as [first, end) pairs.
    lost: Vec<[u64; 2]>,
    sections_lost: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<text::Written<'a>>,
}

impl<'a> Saved<'a> {
    pub(crate) fn new(report: &RecoverReport, output: Option<&'a std::path::Path>) -> Self {
        Self {
            learnt_from: match report.source {
                RecoverSource::Header => "header",
                RecoverSource::Footer => "footer",
                RecoverSource::Journal => "journal",
            },
            pictures: report.pictures,
            pictures_saved: report.pictures_saved,
            records_saved: report.records_saved,
            lost: report
                .lost
                .iter()
                .map(|range| [range.start, range.end])
                .collect(),
            sections_lost: report
                .sections_lost
                .iter()
                .map(ToString::to_string)
                .collect(),
            written: output
                .zip(report.written.as_ref())
                .map(|(path, summary)| text::Written::new(path, summary)),
        }
    }
}

/// What is saved and what is lost, in words.
pub(crate) fn in_words(report: &RecoverReport) -> String {
    const RANGES: usize = 5;
    let mut words = format!(
        "{} of {}",
        text::count(report.pictures_saved),
        text::things(report.pictures, "picture")
    );
    if !report.lost.is_empty() {
        let ranges: Vec<String> = report
            .lost
            .iter()
            .take(RANGES)
            .map(|lost| {
                if lost.end - lost.start == 1 {
                    lost.start.to_string()
                } else {
                    format!("{}-{}", lost.start, lost.end - 1)
                }
            })
            .collect();
        let more = if report.lost.len() > RANGES {
            " and more"
        } else {
            ""
        };
        words.push_str(&format!(" (lost: {}{more})", ranges.join(", ")));
    }
    for section in &report.sections_lost {
        words.push_str(&format!(", without the {section}"));
    }
    words
}

pub(crate) fn run(args: RecoverArgs) -> anyhow::Result<Exit> {
    let report = vqlc_format::recover(&args.input, &args.output, args.force.force)
        .map_err(with_force_hint)
        .with_context(|| format!("recovering {}", args.input.display()))?;
    if args.out.json {
        text::print_json(&Saved::new(&report, Some(&args.output)))?;
    }
    let words = format!("{}: saved {}", args.output.display(), in_words(&report));
    if report.is_lossless() {
        Reporter::new(&args.out).note(&words);
        return Ok(Exit::Ok);
    }
    // A loss is said even with -q.
    say(&words);
    Ok(Exit::Skipped)
}
