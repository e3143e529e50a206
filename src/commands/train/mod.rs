//! `vqlc train`: fitting tokenizers, and measuring them.

mod evaluate;
mod tokenizer;
mod usage;
mod watcher;

use clap::{Args, Subcommand};

use crate::exit::Exit;

/// `vqlc train ...`
#[derive(Args)]
pub(crate) struct TrainArgs {
    #[command(subcommand)]
    command: TrainCommand,
}

#[derive(Subcommand)]
enum TrainCommand {
    /// Train a tokenizer on a folder of pictures
    Tokenizer(Box<tokenizer::TokenizerArgs>),
    /// Measure a tokenizer on a folder of pictures
    Evaluate(evaluate::EvaluateArgs),
    /// Count how much of its codebook a tokenizer uses
    Usage(usage::UsageArgs),
}

pub(crate) fn run(args: TrainArgs) -> anyhow::Result<Exit> {
    match args.command {
        TrainCommand::Tokenizer(args) => tokenizer::run(&args),
        TrainCommand::Evaluate(args) => evaluate::run(&args),
        TrainCommand::Usage(args) => usage::run(&args),
    }
}
