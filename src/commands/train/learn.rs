//! `vqlc train gpt` and the other networks that learn from tokens.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use vqlc_model::Tokenizer;
use vqlc_train::{
    learn::{Kind, LearnConfig, LearnTrainer, Learned},
    run::Outcome,
};

use super::{
    configuration::{Assignments, RunArgs, going_on},
    watcher::Watcher,
};
use crate::{
    default_model,
    exit::Exit,
    interrupt, process,
    report::{self, Reporter},
    text,
};

/// `vqlc train gpt|vit|dit|sit|ldm TOKENS...`
#[derive(Args)]
pub(crate) struct LearnArgs {
    /// Token files to learn from (data.tokens)
    #[arg(value_name = "TOKENS")]
    tokens: Vec<PathBuf>,
    /// Token files to measure on (data.val); once for each
    #[arg(long, value_name = "FILE")]
    val: Vec<PathBuf>,
    /// In place of token files a folder of pictures, whose latents are taken before they are quantised (data.images; dit, sit, ldm)
    #[arg(long, value_name = "DIR", conflicts_with = "tokens")]
    images: Option<PathBuf>,
    /// The tokenizer that the ids are of, a model file (data.tokenizer) [default: the model embedded in this program]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// A configuration by name: tiny or paper
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    #[command(flatten)]
    run: RunArgs,
}

/// What came of a run.
#[derive(Serialize)]
struct Summary {
    network: PathBuf,
    #[serde(flatten)]
    learned: Learned,
}

pub(crate) fn run(kind: Kind, args: &LearnArgs) -> anyhow::Result<Exit> {
    if let Some(name) = &args.run.print_config {
        text::print(LearnConfig::preset_text(kind, name)?)?;
        return Ok(Exit::Ok);
    }
    let out = args.run.out()?;
    process::keep_freed_memory();
    let reporter = Reporter::new(&args.run.output);
    args.run.threads.apply()?;
    interrupt::install()?;
    let config = configuration(kind, args, out)?.with_absolute_paths()?;
    let device = args.run.device.device.open()?;
    let tokenizer = Tokenizer::new(
        &default_model::read(config.data.tokenizer.as_deref())?,
        &device,
    )?;
    let mut watcher = Watcher::new(reporter, config.run.steps);
    let tokenizer = Arc::new(tokenizer);
    let mut trainer = LearnTrainer::new(
        config,
        out,
        tokenizer,
        &device,
        args.run.resume,
        &mut watcher,
    )
    .with_context(|| format!("cannot train in {}", out.display()))?;
    let outcome = trainer.run(&mut watcher)?;
    watcher.finish();
    let network = out.join(format!("{kind}.safetensors"));
    trainer.network()?.write(&network)?;
    reporter.note(&format!("wrote {}", network.display()));
    if outcome == Outcome::Stopped {
        report::say(&format!(
            "vqlc: stopped after step {}; `vqlc train {kind} --resume --out {}` goes on from there",
            trainer.steps(),
            out.display()
        ));
        return Ok(Exit::Interrupted);
    }
    let summary = Summary {
        network,
        learned: trainer.learned()?,
    };
    if args.run.output.json {
        text::print_json(&summary)?;
    } else {
        text::print(&summary.text())?;
    }
    Ok(if trainer.unreadable() > 0 {
        Exit::Skipped
    } else {
        Exit::Ok
    })
}

impl Summary {
    fn text(&self) -> String {
        let mut text = format!(
            "network       {}\nsteps         {}\n",
            self.network.display(),
            text::count(self.learned.steps)
        );
        for (name, value) in &self.learned.val {
            text += &format!(
                "val {name:<10}{value:.4} ({})\n",
                text::things(self.learned.val_pictures, "picture")
            );
        }
        text
    }
}

/// The configuration of a new run, or of the one that goes on.
fn configuration(kind: Kind, args: &LearnArgs, out: &Path) -> anyhow::Result<LearnConfig> {
    let mut set = Assignments::default();
    set.paths("data.tokens", &args.tokens)?;
    set.paths("data.val", &args.val)?;
    set.path("data.images", args.images.as_deref())?;
    set.path("data.tokenizer", args.model.as_deref())?;
    let set = set.and(&args.run.set);
    let told = match (&args.run.config, &args.preset) {
        (Some(file), _) => Some(LearnConfig::read(file, &set)?),
        (None, Some(name)) => Some(LearnConfig::parse(
            LearnConfig::preset_text(kind, name)?,
            &set,
        )?),
        (None, None) => None,
    };
    let config = if args.run.resume {
        let stored = LearnConfig::read(&out.join("config.toml"), &set);
        let stored = stored
            .with_context(|| format!("there is no run to go on with in {}", out.display()))?
            .with_absolute_paths()?;
        let told = told.map(LearnConfig::with_absolute_paths).transpose()?;
        going_on(told, stored, out)?
    } else {
        told.context("name a configuration: --preset tiny, or --config FILE (see --print-config)")?
    };
    ensure!(
        config.model.kind() == kind,
        "the configuration is that of a {}, not of a {kind}",
        config.model.kind()
    );
    Ok(config)
}
