//! What `vqlc validate` says of a file: lines for people, or JSON.

use std::{io::Write, path::Path};

use serde::Serialize;
use vqlc_format::CheckReport;

use super::{Facts, Problem, Verdict};
use crate::{
    cli::OutputArgs,
    commands::recover,
    report::{Reporter, say},
    text,
};

/// One file as JSON says it.
#[derive(Serialize)]
pub(super) struct FileReport<'a> {
    file: String,
    /// "ok", "wrong model", "damaged" or "unreadable".
    status: &'static str,
    #[serde(flatten)]
    facts: Option<&'a Facts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<Checked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_decoder: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<&'a Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    further_problems: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recover: Option<recover::Saved<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Checked {
    blocks: u64,
    of_blocks: u64,
    bytes: u64,
    ids: u64,
}

#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub(super) ok: bool,
    pub(super) files: Vec<FileReport<'a>>,
}

/// What a check that found nothing wrong has covered: everything, or which share.
fn coverage(check: &CheckReport) -> String {
    if check.blocks_checked == check.blocks {
        return "every byte checked".into();
    }
    let share = 100.0 * check.blocks_checked as f64 / check.blocks as f64;
    format!(
        "sampled: every section and {} of {} blocks ({share:.1}%) checked",
        text::count(check.blocks_checked),
        text::count(check.blocks)
    )
}

/// What is fine goes to stdout (nothing with -q), what is not to stderr.
pub(super) fn print(
    path: &Path,
    verdict: &Verdict,
    out: &OutputArgs,
    reporter: &Reporter,
) -> anyhow::Result<()> {
    let name = path.display();
    match verdict {
        Verdict::Ok {
            facts,
            check,
            other_decoder,
        } => {
            if !out.quiet {
                writeln!(
                    std::io::stdout(),
                    "{name}: ok: {}, {}, {}; {}",
                    text::things(facts.pictures, "picture"),
                    text::things(facts.records, "record"),
                    text::bytes(facts.bytes),
                    coverage(check)
                )?;
            }
            if *other_decoder {
                reporter.note(&format!("{name}: note: the model has another decoder than the one the file was made with; the ids mean the same"));
            }
        }
        Verdict::WrongModel { comparison, .. } => {
            say(&format!("{name}: wrong model: {}", comparison.why()))
        }
        Verdict::Damaged {
            problems,
            further,
            survey,
        } => {
            let shown = if out.verbose { problems.len() } else { 5 };
            for problem in problems.iter().take(shown) {
                say(&format!(
                    "{name}: damaged: {} (bytes {} to {})",
                    problem.error,
                    problem.offset,
                    problem.offset.saturating_add(problem.len)
                ));
            }
            let more = problems.len().saturating_sub(shown) as u64 + further;
            if more > 0 {
                say(&format!(
                    "{name}: damaged: and {} more",
                    text::things(more, "problem")
                ));
            }
            match survey {
                Some(saved) => say(&format!(
                    "{name}: `vqlc recover` could save {}",
                    recover::in_words(saved)
                )),
                None => say(&format!("{name}: `vqlc recover` could save nothing of it")),
            }
        }
        Verdict::Unreadable(err) => say(&format!("{name}: {err:#}")),
    }
    Ok(())
}

pub(super) fn file_report<'a>(path: &Path, verdict: &'a Verdict) -> FileReport<'a> {
    let mut report = FileReport {
        file: path.to_string_lossy().into_owned(),
        status: "ok",
        facts: None,
        checked: None,
        other_decoder: None,
        problems: Vec::new(),
        further_problems: None,
        recover: None,
        error: None,
    };
    match verdict {
        Verdict::Ok {
            facts,
            check,
            other_decoder,
        } => {
            report.facts = Some(facts);
            report.checked = Some(Checked {
                blocks: check.blocks_checked,
                of_blocks: check.blocks,
                bytes: check.bytes_checked,
                ids: check.ids_checked,
            });
            report.other_decoder = Some(*other_decoder);
        }
        Verdict::WrongModel { facts, comparison } => {
            report.status = "wrong model";
            report.facts = Some(facts);
            report.error = Some(comparison.why());
        }
        Verdict::Damaged {
            problems,
            further,
            survey,
        } => {
            report.status = "damaged";
            report.problems = problems.iter().collect();
            report.further_problems = Some(*further);
            report.recover = survey
                .as_ref()
                .map(|survey| recover::Saved::new(survey, None));
        }
        Verdict::Unreadable(err) => {
            report.status = "unreadable";
            report.error = Some(format!("{err:#}"));
        }
    }
    report
}
