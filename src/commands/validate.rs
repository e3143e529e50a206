//! `vqlc validate`: whether every byte of a token file is right, and if not, what is wrong and what could be saved.

mod told;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vqlc_format::{CheckOptions, CheckReport, Digests, RecoverReport, TokenFile};

use crate::{
    cli::{OutputArgs, ThreadArgs},
    default_model,
    exit::{self, Exit},
    report::Reporter,
    same_model::Comparison,
    text,
};

const EXAMPLES: &str = "\
The exit code is 0 only if every byte is accounted for: 4 if a file is damaged, whatever else there \
is to say; 5 if it was made by another tokenizer than the one asked about; 1 if it cannot be read. \
With several files all are checked and the gravest of these is given.

Examples:
  vqlc validate train.vqt
  vqlc validate --sample 5% shards/*.vqt
  vqlc validate --model tokenizer.safetensors --json train.vqt";

/// `vqlc validate FILE...`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ValidateArgs {
    /// Token files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Check every section, but only this share of the blocks, like 5%
    #[arg(long, value_name = "PERCENT", value_parser = parse_share)]
    sample: Option<f64>,
    /// Which blocks a sample takes: another number, other blocks
    #[arg(long, value_name = "N", default_value_t = 0, requires = "sample")]
    seed: u64,
    /// Also check that the ids were made by the tokenizer in this model file
    #[arg(long, value_name = "FILE", conflicts_with = "default_model")]
    model: Option<PathBuf>,
    /// Also check that the ids were made by the model embedded in this program
    #[arg(long)]
    default_model: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    out: OutputArgs,
}

/// `5%` or `5` as 0.05.
fn parse_share(text: &str) -> Result<f64, String> {
    let percent: f64 = text
        .strip_suffix('%')
        .unwrap_or(text)
        .trim()
        .parse()
        .map_err(|_| "expected a percentage like 5%".to_owned())?;
    if percent > 0.0 && percent <= 100.0 {
        Ok(percent / 100.0)
    } else {
        Err("expected more than 0% and at most 100%".into())
    }
}

/// What was found out about one file.
enum Verdict {
    Ok {
        facts: Facts,
        check: CheckReport,
        other_decoder: bool,
    },
    WrongModel {
        facts: Facts,
        comparison: Comparison,
    },
    Damaged {
        problems: Vec<Problem>,
        further: u64,
        survey: Option<RecoverReport>,
    },
    Unreadable(anyhow::Error),
}

impl Verdict {
    fn exit(&self) -> Exit {
        match self {
            Self::Ok { .. } => Exit::Ok,
            Self::WrongModel { .. } => Exit::WrongModel,
            Self::Damaged { .. } => Exit::Damaged,
            Self::Unreadable(_) => Exit::Error,
        }
    }
}

/// The graver of two exit codes: damage before anything else, then what could not be looked at, then the wrong model.
fn graver(a: Exit, b: Exit) -> Exit {
    let gravity = |exit| match exit {
        Exit::Damaged => 3,
        Exit::Error => 2,
        Exit::WrongModel => 1,
        _ => 0,
    };
    if gravity(b) > gravity(a) { b } else { a }
}

#[derive(Serialize)]
struct Facts {
    pictures: u64,
    records: u64,
    codebook_size: u32,
    bytes: u64,
    content: String,
}

#[derive(Serialize)]
struct Problem {
    what: String,
    offset: u64,
    len: u64,
    error: String,
}

pub(crate) fn run(args: ValidateArgs) -> anyhow::Result<Exit> {
    let options = CheckOptions {
        sample: args.sample,
        seed: args.seed,
        threads: args.threads.apply()?,
    };
    let reporter = Reporter::new(&args.out);
    let mut worst = Exit::Ok;
    let model = if args.default_model || args.model.is_some() {
        match default_model::digests(args.model.as_deref()) {
            Ok(digests) => Model::Known(digests),
            Err(err) => {
                // The files are checked all the same: damage is graver.
                worst = exit::report(&err);
                Model::Unreadable
            }
        }
    } else {
        Model::NotAsked
    };
    let mut verdicts = Vec::with_capacity(args.files.len());
    for path in &args.files {
        let verdict = judge(path, &options, &model);
        worst = graver(worst, verdict.exit());
        if !args.out.json {
            told::print(path, &verdict, &args.out, &reporter)?;
        }
        verdicts.push(verdict);
    }
    if args.out.json {
        let files = args
            .files
            .iter()
            .zip(&verdicts)
            .map(|(path, verdict)| told::file_report(path, verdict))
            .collect();
        text::print_json(&told::Report {
            ok: worst == Exit::Ok,
            files,
        })?;
    }
    Ok(worst)
}

/// The model asked about.
enum Model {
    NotAsked,
    Known(Digests),
    /// Why was said already.
    Unreadable,
}

fn judge(path: &Path, options: &CheckOptions, model: &Model) -> Verdict {
    let file = match TokenFile::open(path) {
        Ok(file) => file,
        Err(err) if err.is_damage() => {
            let problem = Problem {
                what: "file".into(),
                offset: 0,
                len: path.metadata().map_or(0, |meta| meta.len()),
                error: err.to_string(),
            };
            return damaged(path, vec![problem], 0);
        }
        Err(err) => return Verdict::Unreadable(err.into()),
    };
    let check = file.check(options);
    if !check.is_ok() {
        if let Some(problem) = check
            .problems
            .iter()
            .find(|problem| !problem.error.is_damage())
        {
            return Verdict::Unreadable(anyhow::anyhow!("{}", problem.error));
        }
        let problems = check
            .problems
            .iter()
            .map(|p| Problem {
                what: p.what.to_string(),
                offset: p.offset,
                len: p.len,
                error: p.error.to_string(),
            })
            .collect();
        return damaged(path, problems, check.further_problems);
    }
    let facts = Facts {
        pictures: file.pictures(),
        records: file.len(),
        codebook_size: file.codebook_size(),
        bytes: check.bytes_checked,
        content: file.content().to_string(),
    };
    match model {
        Model::Unreadable => Verdict::Unreadable(anyhow::anyhow!(
            "not compared: the model asked about cannot be read"
        )),
        Model::NotAsked => Verdict::Ok {
            facts,
            check,
            other_decoder: false,
        },
        Model::Known(model) => {
            let comparison = Comparison::of(file.digests(), model);
            if comparison.same_ids() {
                Verdict::Ok {
                    facts,
                    check,
                    other_decoder: comparison.other_decoder,
                }
            } else {
                Verdict::WrongModel { facts, comparison }
            }
        }
    }
}

fn damaged(path: &Path, problems: Vec<Problem>, further: u64) -> Verdict {
    // A file of which nothing can be saved is still damaged, no less.
    let survey = vqlc_format::survey(path).ok();
    Verdict::Damaged {
        problems,
        further,
        survey,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        assert_eq!(parse_share("5%"), Ok(0.05));
        assert_eq!(parse_share("12.5"), Ok(0.125));
        assert_eq!(parse_share("100%"), Ok(1.0));
        for bad in ["", "%", "0", "-1%", "101%", "nan", "five"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn damage_is_gravest() {
        let all = [Exit::Ok, Exit::WrongModel, Exit::Error, Exit::Damaged];
        for (i, &a) in all.iter().enumerate() {
            for (j, &b) in all.iter().enumerate() {
                assert_eq!(graver(a, b), all[i.max(j)]);
            }
        }
    }
}
