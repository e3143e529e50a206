//! `vqlc compress`: pictures in, token file out.

mod args;
mod job;
mod outcome;
mod stages;

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use vqlc_format::Writer;

pub(crate) use args::CompressArgs;
use job::Job;
use outcome::Tally;
use stages::{Limits, Stages, StrictStop};

use crate::exit::{Exit, code_of};
use crate::report::{self, Reporter, shown};
use crate::walk::Pictures;
use crate::{default_model, interrupt, text};

pub(crate) fn run(args: CompressArgs) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let reporter = Reporter::new(&args.output);
    let threads = args.threads.apply()?;
    let (inputs, output) = args.split_paths()?;
    args.check()?;
    if !args.dry_run {
        check_output(&args, output)?;
    }
    let pictures = args.find(inputs, output, &reporter)?;
    if pictures.len() == 0 {
        say_problems(&pictures);
        bail!(
            "no pictures found: {}{}",
            left_out(&pictures),
            if pictures.links > 0 {
                " (--follow follows links)"
            } else {
                ""
            }
        );
    }
    if args.dry_run {
        return dry_run(&args, &pictures, output, &reporter);
    }
    interrupt::install()?;
    let tokenizer = default_model::load(&args.model, &args.network)?;
    let job = Job::new(&args, &pictures, &tokenizer, threads)?;
    let mut tally = Tally::new(&pictures);
    say_problems(&pictures);
    ensure!(!args.strict || pictures.problems.is_empty(), StrictStop);
    let mut writer = open_writer(&args, output, &job, &reporter)?;
    tally.resume(&writer);
    reporter.detail(&format!(
        "{} on {} with {threads} threads",
        text::things(job.len(), "picture"),
        args.network.device()
    ));

    let progress = reporter.progress("compressing", job.len(), writer.next_position());
    let stages = Stages {
        job: &job,
        pictures: &pictures,
        tokenizer: &tokenizer,
        limits: Limits::new(&args, threads),
        progress: &progress,
        strict: args.strict,
    };
    let result = stages.run(&mut writer, &mut tally);
    progress.finish();
    if let Err(err) = result {
        // Nothing is lost if this fails too: the journal holds what it held before.
        let _ = writer.suspend();
        return Err(with_hint(err, output));
    }
    if tally.next < job.len() {
        writer
            .suspend()
            .with_context(|| format!("cannot write {}", output.display()))?;
        report::say(&format!(
            "vqlc: interrupted after {} of {} pictures; the same command with --resume goes on from there",
            text::count(tally.next),
            text::count(job.len())
        ));
        return Ok(Exit::Interrupted);
    }
    let summary = writer.finish(job.len()).map_err(|err| {
        with_hint(
            anyhow::Error::new(err).context(format!("cannot write {}", output.display())),
            output,
        )
    })?;
    let result =
        outcome::Report::new(&tally, &pictures, &job, &summary, output, started.elapsed())?;
    let printed = if args.output.json {
        text::print_json(&result)
    } else {
        Ok(())
    };
    result.say(&reporter);
    // A reader that went away does not change what came of the run.
    if let Err(err) = printed
        && code_of(&err) != Exit::Ok
    {
        return Err(err);
    }
    Ok(if result.skipped_count > 0 {
        Exit::Skipped
    } else {
        Exit::Ok
    })
}

/// What can be said against OUT before any work is done.
fn check_output(args: &CompressArgs, output: &Path) -> anyhow::Result<()> {
    let shown = output.display();
    ensure!(
        !output.is_dir(),
        "{shown} is a folder; the last argument is the token file to write, as in {}",
        output.join("pictures.vqt").display()
    );
    ensure!(
        !vqlc_model::image::is_picture_name(output),
        "the last argument is the token file to write, but {shown} is named like a picture; did you leave out OUT.vqt?"
    );
    if let Some(folder) = output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        ensure!(
            folder.is_dir(),
            "cannot write {shown}: there is no folder {}",
            folder.display()
        );
    }
    let partial = vqlc_format::partial_path(output);
    let started = partial.symlink_metadata().is_ok();
    if output.symlink_metadata().is_ok() && !args.force.force {
        bail!(
            "{shown} exists already{}; --force replaces it",
            if args.resume && !started {
                " and there is nothing to resume"
            } else {
                ""
            }
        );
    }
    if started && !args.resume && !args.force.force {
        bail!(
            "{} is left from a run that was stopped: --resume goes on with it, --force starts again",
            partial.display()
        );
    }
    Ok(())
}

fn open_writer(
    args: &CompressArgs,
    output: &Path,
    job: &Job,
    reporter: &Reporter,
) -> anyhow::Result<Writer> {
    let cannot = || format!("cannot write {}", output.display());
    if args.resume {
        match Writer::resume(output, &job.spec, job.digest, args.force.force) {
            Ok(writer) => {
                let done = writer.next_position();
                reporter.note(&format!(
                    "resuming: {} of {} pictures are done",
                    text::count(done),
                    text::count(job.len())
                ));
                return Ok(writer);
            }
            Err(vqlc_format::Error::NothingToResume { .. }) => {
                reporter.note("nothing to resume: starting from the first picture")
            }
            Err(err) => {
                return Err(anyhow::Error::new(err).context(format!(
                    "cannot resume {} (--force without --resume starts again)",
                    output.display()
                )));
            }
        }
    }
    Writer::create(output, &job.spec, job.digest, args.force.force).with_context(cannot)
}

/// Says that the work so far is not lost, where that is so.
fn with_hint(err: anyhow::Error, output: &Path) -> anyhow::Error {
    if vqlc_format::partial_path(output).exists() {
        report::say(if err.is::<StrictStop>() {
            "vqlc: what is done is kept; --resume without --strict leaves the picture out and goes on from there"
        } else {
            "vqlc: what is done is kept; the same command with --resume goes on from there"
        });
    }
    err
}

/// What should have been looked at but could not be.
fn say_problems(pictures: &Pictures) {
    for problem in &pictures.problems {
        report::say(&format!(
            "skipped {}: {}",
            shown(&problem.name),
            problem.reason
        ));
    }
}

fn left_out(pictures: &Pictures) -> String {
    format!(
        "passed over {}, {}, {} by --include and --exclude",
        text::things(pictures.passed_over, "other file"),
        text::things(pictures.links, "symbolic link"),
        text::count(pictures.excluded)
    )
}

/// Lists on stdout what would be compressed.
fn dry_run(
    args: &CompressArgs,
    pictures: &Pictures,
    output: &Path,
    reporter: &Reporter,
) -> anyhow::Result<Exit> {
    if let Err(err) = check_output(args, output) {
        reporter.note(&format!("note: without --dry-run this would stop: {err}"));
    }
    let range = args.range(pictures.len());
    let count = range.end - range.start;
    say_problems(pictures);
    if args.output.json {
        let classes = if args.no_labels {
            0
        } else {
            pictures.classes.len()
        };
        text::print_json(&serde_json::json!({
            "dry_run": true,
            "pictures": count,
            "classes": classes,
            "passed_over": pictures.passed_over,
            "links_not_followed": pictures.links,
            "excluded": pictures.excluded,
            "bytes_in": range.clone().map(|picture| pictures.size(picture)).sum::<u64>(),
        }))?;
    } else {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        for picture in range {
            out.write_all(pictures.name(picture))?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    reporter.note(&format!(
        "{}; {}",
        text::things(count, "picture"),
        left_out(pictures)
    ));
    Ok(if pictures.problems.is_empty() {
        Exit::Ok
    } else {
        Exit::Skipped
    })
}
