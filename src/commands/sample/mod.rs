//! `vqlc sample`: pictures out of networks that learned from tokens.

mod output;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vqlc_train::{
    diffusion::{self, Sampler},
    gpt::Choice,
    learn::{Kind, Sampling},
};

use crate::{
    cli::{DeviceArgs, ForceArgs, ModelFileArgs, OutputArgs, ThreadArgs},
    exit::Exit,
};

const LATENTS: &str = "\
Latents are taken out of noise, quantised to ids of the tokenizer, and written as a token file. Picture number i depends on the network, \
--seed and i alone, but for rounding. Without --class the classes take turns.

Examples:
  vqlc sample dit run/dit.safetensors samples.vqt --count 64 --steps 100 --decode samples
  vqlc sample sit run/sit.safetensors cats.vqt --class cat --guidance 4 --sampler euler --sheet cats.png
  vqlc sample ldm run/ldm.safetensors samples.vqt --sampler ddpm --steps 250";
const GPT: &str = "\
Picture number i depends on the network, --seed and i alone, not on --batch or on how many there are, but for rounding where several \
are worked on at once. Without --class the classes take turns.

Examples:
  vqlc sample gpt run/gpt.safetensors samples.vqt --count 64 --decode samples
  vqlc sample gpt run/gpt.safetensors cats.vqt --class cat --guidance 2 --top-k 1000 --sheet cats.png";

/// `vqlc sample ...`
#[derive(Args)]
pub(crate) struct SampleArgs {
    #[command(subcommand)]
    command: SampleCommand,
}

#[derive(Subcommand)]
enum SampleCommand {
    /// Sample token ids with a gpt
    #[command(after_help = GPT)]
    Gpt(Box<GptArgs>),
    /// Sample latents with a dit, and quantise them
    #[command(after_help = LATENTS)]
    Dit(Box<LatentArgs>),
    /// Sample latents with a sit, and quantise them
    #[command(after_help = LATENTS)]
    Sit(Box<LatentArgs>),
    /// Sample latents with an ldm, and quantise them
    #[command(after_help = LATENTS)]
    Ldm(Box<LatentArgs>),
}

/// What all kinds have.
#[derive(Args)]
struct Common {
    /// The network, a file that `vqlc train` wrote
    #[arg(value_name = "NETWORK")]
    network: PathBuf,
    /// The token file to write
    #[arg(value_name = "OUT.vqt")]
    output_file: PathBuf,
    /// How many pictures
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Only this class, by its name; once for each [default: all, taking turns]
    #[arg(long, value_name = "NAME")]
    class: Vec<String>,
    /// How much more the class counts than it does by itself; 1 is none [default: as the network was trained for]
    #[arg(long, value_name = "X")]
    guidance: Option<f64>,
    /// What all draws depend on
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Pictures worked on at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Also decode the pictures into this folder, as PNG
    #[arg(long, value_name = "DIR")]
    decode: Option<PathBuf>,
    /// Also write all pictures side by side as one PNG, at most 256
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// The tokenizer that the network's tokens are of [default: the model embedded in this program]
    #[command(flatten)]
    model: ModelFileArgs,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// `vqlc sample gpt`
#[derive(Args)]
struct GptArgs {
    #[command(flatten)]
    common: Common,
    /// Ids are drawn from the likeliest so many [default: a tenth of the codebook]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Of these only the likeliest whose probabilities add up to this
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// What logits are divided by: below 1 fewer surprises; 0 takes the likeliest id
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
}

/// `vqlc sample dit|sit|ldm`
#[derive(Args)]
struct LatentArgs {
    #[command(flatten)]
    common: Common,
    /// The way from noise to latents: ddim or ddpm for dit and ldm, heun or euler for sit [default: the first]
    #[arg(long, value_name = "NAME")]
    sampler: Option<SamplerName>,
    /// Steps of it [default: as the network's configuration says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    steps: Option<u16>,
    /// Of ddim: how much new noise there is in each step, 0 to 1 (as much as ddpm's)
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    eta: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum SamplerName {
    Ddim,
    Ddpm,
    Heun,
    Euler,
}

impl From<SamplerName> for Sampler {
    fn from(name: SamplerName) -> Self {
        match name {
            SamplerName::Ddim => Self::Ddim,
            SamplerName::Ddpm => Self::Ddpm,
            SamplerName::Heun => Self::Heun,
            SamplerName::Euler => Self::Euler,
        }
    }
}

pub(crate) fn run(args: SampleArgs) -> anyhow::Result<Exit> {
    match args.command {
        SampleCommand::Gpt(args) => output::run(&args.common, Kind::Gpt, |how| match how {
            Sampling::Ids(choice) => Sampling::Ids(Choice {
                temperature: args.temperature,
                top_k: args.top_k.map_or(choice.top_k, |k| k as usize),
                top_p: args.top_p,
                guidance: args.common.guidance.unwrap_or(choice.guidance),
            }),
            other @ Sampling::Latents(_) => other,
        }),
        SampleCommand::Dit(args) => latents(&args, Kind::Dit),
        SampleCommand::Sit(args) => latents(&args, Kind::Sit),
        SampleCommand::Ldm(args) => latents(&args, Kind::Ldm),
    }
}

fn latents(args: &LatentArgs, kind: Kind) -> anyhow::Result<Exit> {
    output::run(&args.common, kind, |how| match how {
        Sampling::Latents(own) => Sampling::Latents(diffusion::Sampling {
            sampler: args.sampler.map_or(own.sampler, Sampler::from),
            steps: args.steps.map_or(own.steps, usize::from),
            eta: args.eta,
            guidance: args.common.guidance.unwrap_or(own.guidance),
        }),
        other @ Sampling::Ids(_) => other,
    })
}
