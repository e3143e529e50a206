//! `vqlc train`: fitting tokenizers and what learns from their tokens, and measuring them.

pub(crate) mod configuration;
mod learn;
mod tokenizer;
mod usage;
pub(crate) mod watcher;

use clap::{Args, Subcommand};
use vqlc_train::learn::Kind;

use crate::exit::Exit;

const LEARN: &str = "\
The run's folder holds config.toml, checkpoints/, metrics.jsonl, TensorBoard events, grids/ of samples, and at the end the network as \
one file, which `vqlc sample` and `vqlc eval` take. A run that was stopped or killed goes on with --resume, step for step as if it \
had not been; a checkpoint knows its token files by their content.

Examples:";
const GPT: &str = "\
  vqlc train gpt --preset tiny train.vqt --val val.vqt --out run
  vqlc train gpt --print-config paper > my.toml
  vqlc train gpt --config my.toml shards/*.vqt --out run --device cuda
  vqlc train gpt --resume --out run
  vqlc sample gpt run/gpt.safetensors samples.vqt --decode samples";

const VIT: &str = "\
  vqlc train vit --preset tiny train.vqt --val val.vqt --out run
  vqlc train vit --preset paper train.vqt --val val.vqt --out run --set model.weights=mae_pretrain_vit_base.pth
  vqlc eval vit run/vit.safetensors val.vqt";
const DIT: &str = "\
  vqlc train dit --preset tiny train.vqt --out run             # on z_q, looked up from ids
  vqlc train dit --preset paper --images train --out run       # on z, before it is quantised
  vqlc sample dit run/dit.safetensors samples.vqt --decode samples";
const SIT: &str = "\
  vqlc train sit --preset tiny train.vqt --out run             # on z_q, looked up from ids
  vqlc train sit --preset paper --images train --out run       # on z, before it is quantised
  vqlc sample sit run/sit.safetensors samples.vqt --decode samples";
const LDM: &str = "\
  vqlc train ldm --preset tiny train.vqt --out run             # on z_q, looked up from ids
  vqlc train ldm --preset paper --images train --out run       # on z, before it is quantised
  vqlc sample ldm run/ldm.safetensors samples.vqt --decode samples";

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
    /// Train a transformer that continues token ids, to sample pictures from
    #[command(after_help = [LEARN, GPT].join("\n  "))]
    Gpt(Box<learn::LearnArgs>),
    /// Train a transformer that tells the class of a picture from its tokens
    #[command(after_help = [LEARN, VIT].join("\n  "))]
    Vit(Box<learn::LearnArgs>),
    /// Train a diffusion transformer on latents
    #[command(after_help = [LEARN, DIT].join("\n  "))]
    Dit(Box<learn::LearnArgs>),
    /// Train a transformer on latents and straight paths
    #[command(after_help = [LEARN, SIT].join("\n  "))]
    Sit(Box<learn::LearnArgs>),
    /// Train the UNet of latent diffusion
    #[command(after_help = [LEARN, LDM].join("\n  "))]
    Ldm(Box<learn::LearnArgs>),
    /// Count how much of its codebook a tokenizer uses
    Usage(usage::UsageArgs),
}

pub(crate) fn run(args: TrainArgs) -> anyhow::Result<Exit> {
    match args.command {
        TrainCommand::Tokenizer(args) => tokenizer::run(&args),
        TrainCommand::Gpt(args) => learn::run(Kind::Gpt, &args),
        TrainCommand::Vit(args) => learn::run(Kind::Vit, &args),
        TrainCommand::Dit(args) => learn::run(Kind::Dit, &args),
        TrainCommand::Sit(args) => learn::run(Kind::Sit, &args),
        TrainCommand::Ldm(args) => learn::run(Kind::Ldm, &args),
        TrainCommand::Usage(args) => usage::run(&args),
    }
}
