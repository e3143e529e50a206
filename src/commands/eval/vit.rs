//! `vqlc eval vit`: what a classifier that learned from tokens is worth.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use vqlc_model::{Precision, Tokenizer};
use vqlc_train::{
    learn::{Figures, Kind, NetworkFile, measure},
    tokens::TokenSet,
};

use crate::{
    cli::{DeviceArgs, ModelFileArgs, OutputArgs, ThreadArgs},
    default_model,
    exit::Exit,
    process, text,
};

const EXAMPLES: &str = "\
First views only. top1 is the share of pictures whose likeliest class is the right one, top5 whose five likeliest have it among them, \
loss the cross-entropy in nats.

Examples:
  vqlc eval vit run/vit.safetensors val.vqt
  vqlc eval vit run/vit.safetensors shards/*.vqt --json";

/// `vqlc eval vit`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VitArgs {
    /// The network, a file that `vqlc train vit` wrote
    #[arg(value_name = "NETWORK")]
    network: PathBuf,
    /// Labelled token files with the classes that it was trained on
    #[arg(value_name = "TOKENS", required = true)]
    tokens: Vec<PathBuf>,
    /// Pictures looked at together
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    #[command(flatten)]
    model: ModelFileArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    pictures: u64,
    #[serde(flatten)]
    figures: Figures,
}

pub(crate) fn run(args: &VitArgs) -> anyhow::Result<Exit> {
    process::keep_freed_memory();
    args.threads.apply()?;
    let name = args.network.display();
    let file = NetworkFile::read(&args.network)?;
    ensure!(
        file.kind() == Kind::Vit,
        "{name} is a {}, not a vit",
        file.kind()
    );
    let set = TokenSet::open(&args.tokens)?;
    file.facts.expect_like(&set)?;
    let device = args.device.device.open()?;
    let tokenizer = Tokenizer::new(&default_model::read(args.model.model.as_deref())?, &device)?;
    let system = file
        .build(&tokenizer, &device, Precision::F32)
        .with_context(|| name.to_string())?;
    let found = Found {
        pictures: set.pictures(),
        figures: measure(system.as_ref(), &set, true, args.batch.into(), &device)?,
    };
    if args.output.json {
        text::print_json(&found)?;
    } else {
        let mut lines = format!("pictures      {}\n", text::count(found.pictures));
        for (name, value) in &found.figures {
            lines += &format!("{name:<14}{value:.4}\n");
        }
        text::print(&lines)?;
    }
    Ok(Exit::Ok)
}
