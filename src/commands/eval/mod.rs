//! `vqlc eval`: figures of tokenizers and of what learned from their tokens.

mod codebook;
mod generation;
pub(crate) mod reconstruction;
mod vit;

use clap::{Args, Subcommand};

use crate::exit::Exit;

/// `vqlc eval ...`
#[derive(Args)]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    command: EvalCommand,
}

#[derive(Subcommand)]
enum EvalCommand {
    /// Measure how token files use their codebook, and what an entropy coder would save
    Codebook(codebook::CodebookArgs),
    /// Measure generated pictures against others: FID, Inception Score, precision and recall
    Generation(Box<generation::GenerationArgs>),
    /// Measure what became of pictures: a tokenizer's, a token file's or another program's
    Reconstruction(Box<reconstruction::ReconstructionArgs>),
    /// Measure a classifier on labelled token files
    Vit(vit::VitArgs),
}

pub(crate) fn run(args: EvalArgs) -> anyhow::Result<Exit> {
    match args.command {
        EvalCommand::Codebook(args) => codebook::run(&args),
        EvalCommand::Generation(args) => generation::run(&args),
        EvalCommand::Reconstruction(args) => reconstruction::run(&args),
        EvalCommand::Vit(args) => vit::run(&args),
    }
}
