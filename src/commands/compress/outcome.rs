//! What came of a run, counted as it goes and said at the end.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use vqlc_format::{Grid, Summary, TokenFile, Writer};

use super::job::Job;
use crate::report::{self, Reporter, shown};
use crate::text;
use crate::walk::Pictures;

/// How many skipped pictures the result names; all are counted, and each was said when it happened.
const NAMED: usize = 10_000;

/// Counts of a run as it goes.
pub(super) struct Tally {
    /// Position that comes next.
    pub(super) next: u64,
    /// Pictures written by this run.
    pub(super) written: u64,
    /// Pictures about which there was a note.
    pub(super) notes: u64,
    resumed: bool,
    skipped: Vec<Skipped>,
    skipped_count: u64,
    skipped_bytes: u64,
}

/// A picture that was left out.
#[derive(Clone, Serialize)]
struct Skipped {
    name: String,
    reason: String,
}

impl Tally {
    /// Nothing yet but what could not even be looked at.
    pub(super) fn new(pictures: &Pictures) -> Self {
        let mut tally = Self {
            next: 0,
            written: 0,
            notes: 0,
            resumed: false,
            skipped: Vec::new(),
            skipped_count: 0,
            skipped_bytes: 0,
        };
        for problem in &pictures.problems {
            tally.skip(&problem.name, problem.reason.clone(), 0);
        }
        tally
    }

    /// Goes on from where `writer` is.
    pub(super) fn resume(&mut self, writer: &Writer) {
        self.next = writer.next_position();
        self.resumed = self.next > 0;
        self.skipped_count += writer.skipped_positions();
    }

    pub(super) fn skip(&mut self, name: &[u8], reason: String, bytes: u64) {
        self.skipped_count += 1;
        self.skipped_bytes += bytes;
        if self.skipped.len() < NAMED {
            self.skipped.push(Skipped {
                name: shown(name),
                reason,
            });
        }
    }
}

/// The final report; also what `--json` prints.
#[derive(Serialize)]
pub(super) struct Report {
    output: String,
    pictures: u64,
    views: u64,
    records: u64,
    /// Those found by this run; one that was resumed counts more.
    skipped: Vec<Skipped>,
    pub(super) skipped_count: u64,
    passed_over: u64,
    links_not_followed: u64,
    excluded: u64,
    notes: u64,
    classes: Option<usize>,
    bytes_in: u64,
    bytes_out: u64,
    bits_per_pixel: f64,
    ids_used: u32,
    codebook_size: u32,
    seconds: f64,
    pictures_per_second: f64,
    content: String,
    resumed: bool,
}

impl Report {
    pub(super) fn new(
        tally: &Tally,
        pictures: &Pictures,
        job: &Job,
        summary: &Summary,
        output: &Path,
        took: Duration,
    ) -> anyhow::Result<Self> {
        let bytes: u64 = job
            .range
            .clone()
            .map(|picture| pictures.size(picture))
            .sum();
        let pixels = pixels(job, summary, output)?;
        let seconds = took.as_secs_f64();
        Ok(Self {
            output: output.display().to_string(),
            pictures: summary.pictures,
            views: job.views(),
            records: summary.records,
            skipped: tally.skipped.clone(),
            skipped_count: tally.skipped_count,
            passed_over: pictures.passed_over,
            links_not_followed: pictures.links,
            excluded: pictures.excluded,
            notes: tally.notes,
            classes: job.labels.then_some(pictures.classes.len()),
            bytes_in: bytes.saturating_sub(tally.skipped_bytes),
            bytes_out: summary.file_len,
            bits_per_pixel: if pixels == 0 {
                0.0
            } else {
                summary.file_len as f64 * 8.0 / pixels as f64
            },
            ids_used: summary.distinct_ids,
            codebook_size: job.spec.codebook_size,
            seconds,
            pictures_per_second: tally.written as f64 / seconds.max(1e-9),
            content: summary.content.to_string(),
            resumed: tally.resumed,
        })
    }

    /// The report for people.
    pub(super) fn say(&self, reporter: &Reporter) {
        let views = if self.views > 1 {
            format!(" in {} views", self.views)
        } else {
            String::new()
        };
        let classes = self.classes.map_or(String::new(), |n| {
            format!(
                ", {}",
                if n == 1 {
                    "1 class".to_owned()
                } else {
                    format!("{} classes", text::count(n as u64))
                }
            )
        });
        reporter.note(&format!(
            "{}: {}{views}{classes}",
            self.output,
            text::things(self.pictures, "picture")
        ));
        reporter.note(&format!(
            "  {} in, {} out ({:.3} bits a pixel); {} of {} ids used",
            text::bytes(self.bytes_in),
            text::bytes(self.bytes_out),
            self.bits_per_pixel,
            text::count(self.ids_used.into()),
            text::count(self.codebook_size.into()),
        ));
        reporter.note(&format!(
            "  {}, {:.1} pictures/s; content {}",
            report::span(self.seconds),
            self.pictures_per_second,
            self.content
        ));
        for (count, what, rest) in [
            (self.passed_over, "file", "passed over: no picture by name"),
            (
                self.links_not_followed,
                "symbolic link",
                "not followed (--follow)",
            ),
            (self.excluded, "name", "left out by --include and --exclude"),
            (
                self.notes,
                "picture",
                "with a colour profile that was not applied",
            ),
        ] {
            if count > 0 {
                reporter.note(&format!("  {} {rest}", text::things(count, what)));
            }
        }
        if self.skipped_count > 0 {
            // Said even with -q: it is why the exit code is not 0.
            report::say(&format!(
                "vqlc: {} could not be read and left out",
                text::things(self.skipped_count, "picture")
            ));
        }
    }
}

/// Pixels that the records stand for, without padding, all views together.
fn pixels(job: &Job, summary: &Summary, output: &Path) -> anyhow::Result<u64> {
    if let Grid::Fixed { rows, cols } = job.spec.grid {
        let factor = u64::from(job.preprocessing.factor());
        return Ok(summary.records * u64::from(rows) * u64::from(cols) * factor * factor);
    }
    // Sizes of pictures that an earlier, resumed run wrote are in the file only.
    let file = TokenFile::open(output)?;
    let mut pixels = 0;
    for picture in 0..file.pictures() {
        if let Some((width, height)) = file.size(picture)? {
            let (width, height) = job.preprocessing.content_size(width, height);
            pixels += u64::from(width) * u64::from(height);
        }
    }
    Ok(pixels * job.views())
}
