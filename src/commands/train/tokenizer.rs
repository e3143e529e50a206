//! `vqlc train tokenizer`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use vqlc_train::{
    TokenizerConfig,
    run::Outcome,
    trainer::{Finished, TokenizerTrainer},
};

use super::{
    configuration::{Assignments, RunArgs, going_on},
    usage::lines,
    watcher::Watcher,
};
use crate::{
    exit::Exit,
    interrupt, process,
    report::{self, Reporter},
    text,
};

const EXAMPLES: &str = "\
The run's folder holds config.toml, checkpoints/, metrics.jsonl, TensorBoard events, grids/ of \
pictures beside their reconstructions, and at the end model.safetensors, which `vqlc compress --model` takes. \
A run that was stopped or killed goes on with --resume, step for step as if it had not been.

Examples:
  vqlc train tokenizer --print-config small > my.toml
  vqlc train tokenizer --config my.toml --images photos --codebook codebook.safetensors --out run
  vqlc train tokenizer --preset tiny --images photos --out run --set run.steps=50
  vqlc train tokenizer --resume --out run";

/// `vqlc train tokenizer`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenizerArgs {
    /// A configuration by name: paper-f16, paper-f8, small or tiny
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// The folder to learn from (data.images)
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// A folder to measure the model on at the end (data.eval)
    #[arg(long, value_name = "DIR")]
    eval: Option<PathBuf>,
    /// The codebook that `vqlc codebook` made (quantizer.codebook)
    #[arg(long, value_name = "FILE")]
    codebook: Option<PathBuf>,
    /// The weights of the perceptual loss's network (loss.perceptual_weights); once for each file
    #[arg(long, value_name = "FILE")]
    perceptual_weights: Vec<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

pub(crate) fn run(args: &TokenizerArgs) -> anyhow::Result<Exit> {
    if let Some(name) = &args.run.print_config {
        text::print(TokenizerConfig::preset_text(name)?)?;
        return Ok(Exit::Ok);
    }
    let out = args.run.out()?;
    process::keep_freed_memory();
    let reporter = Reporter::new(&args.run.output);
    args.run.threads.apply()?;
    interrupt::install()?;
    let config = configuration(args, out)?.with_absolute_paths()?;
    let device = args.run.device.device.open()?;
    let mut watcher = Watcher::new(reporter, config.run.steps);
    let mut trainer = TokenizerTrainer::new(config, out, &device, args.run.resume, &mut watcher)
        .with_context(|| format!("cannot train in {}", out.display()))?;
    if trainer.run(&mut watcher)? == Outcome::Stopped {
        watcher.finish();
        report::say(&format!(
            "vqlc: stopped after step {}; `vqlc train tokenizer --resume --out {}` goes on from there",
            trainer.steps(),
            out.display()
        ));
        return Ok(Exit::Interrupted);
    }
    watcher.finish();
    let Some(finished) = trainer.finish(&mut watcher)? else {
        report::say(&format!(
            "vqlc: interrupted while counting used entries; `vqlc train tokenizer --resume --out {}` measures again",
            out.display()
        ));
        return Ok(Exit::Interrupted);
    };
    if args.run.output.json {
        text::print_json(&finished)?;
    } else {
        text::print(&shown(&finished))?;
    }
    Ok(if trainer.unreadable() > 0 {
        Exit::Skipped
    } else {
        Exit::Ok
    })
}

/// The configuration of a new run, or of the one that goes on.
fn configuration(args: &TokenizerArgs, out: &Path) -> anyhow::Result<TokenizerConfig> {
    let mut set = Assignments::default();
    set.path("data.images", args.images.as_deref())?;
    set.path("data.eval", args.eval.as_deref())?;
    set.path("quantizer.codebook", args.codebook.as_deref())?;
    set.paths("loss.perceptual_weights", &args.perceptual_weights)?;
    let set = set.and(&args.run.set);
    let stored = out.join("config.toml");
    let told = match (&args.run.config, &args.preset) {
        (Some(file), _) => Some(TokenizerConfig::read(file, &set)?),
        (None, Some(name)) => Some(TokenizerConfig::parse(
            TokenizerConfig::preset_text(name)?,
            &set,
        )?),
        (None, None) => None,
    };
    if args.run.resume {
        let stored = TokenizerConfig::read(&stored, &set)
            .with_context(|| format!("there is no run to go on with in {}", out.display()))?
            .with_absolute_paths()?;
        let told = told
            .map(|mut told| {
                // The sizes of the codebook were filled in when the run began.
                told.model.n_codes = stored.model.n_codes;
                told.model.code_dim = stored.model.code_dim;
                told.with_absolute_paths()
            })
            .transpose()?;
        return going_on(told, stored, out);
    }
    told.ok_or_else(|| {
        anyhow::anyhow!(
            "name a configuration: --preset small, or --config FILE (see --print-config)"
        )
    })
}

/// What came of a run, as lines of text.
fn shown(finished: &Finished) -> String {
    let model = (finished.model.as_ref()).map_or("none".into(), |path| path.display().to_string());
    let mut text = format!(
        "model         {model}\nsteps         {}\n{}",
        text::count(finished.steps),
        lines(&finished.usage)
    );
    if let Some(evaluation) = &finished.evaluation {
        text += &evaluation.text();
    }
    text
}
