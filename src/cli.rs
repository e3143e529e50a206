//! The command line's grammar. Options that occur in several commands are one struct each, so that they mean the same everywhere.

use clap::{Args, Parser, Subcommand};

use crate::commands;

/// Pictures to token files and back: the VQGAN-LC image tokenizer as a codec.
#[derive(Parser)]
#[command(name = "vqlc", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Turn pictures into a token file
    Compress(commands::compress::CompressArgs),
    /// Turn a token file back into pictures
    Decompress(commands::decompress::DecompressArgs),
    /// Check that every byte of a token file is right
    Validate(commands::validate::ValidateArgs),
    /// Say what a token file holds
    Info(commands::info::InfoArgs),
    /// Save what can be saved of a damaged or unfinished token file
    Recover(commands::recover::RecoverArgs),
    /// Join the shards of one job into the file that one run would have written
    Merge(commands::merge::MergeArgs),
    /// Cut a token file into shards
    Split(commands::split::SplitArgs),
    /// Write the ids as a NumPy array
    Export(commands::export::ExportArgs),
    /// Look at, convert and shrink model files
    Model(commands::model::ModelArgs),
    /// Make a codebook of a folder of pictures with a pretrained encoder
    Codebook(Box<commands::codebook::CodebookArgs>),
    /// Train tokenizers and what learns from tokens, and measure them
    Train(commands::train::TrainArgs),
    /// Measure tokenizers, token files and what learned from them
    Eval(commands::eval::EvalArgs),
    /// Train tokenizers that differ in one thing each, and compare them in a table
    Ablate(Box<commands::ablate::AblateArgs>),
    /// Sample pictures from what learned from tokens
    Sample(commands::sample::SampleArgs),
    /// Write a page that shows what a tokenizer does to pictures
    Report(Box<commands::report::ReportArgs>),
    /// Measure this machine: encode, decode, search, unpack, validate
    Bench(commands::bench::BenchArgs),
    /// Compare every fast operation with its plain version on this machine
    Selftest(commands::selftest::SelftestArgs),
    /// Print a completion script for a shell
    Completions(commands::completions::CompletionsArgs),
}

/// How much is said, and in what form.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct OutputArgs {
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// How many threads work.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct ThreadArgs {
    /// Worker threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

impl ThreadArgs {
    /// Sizes the pool that the network runs on and says how many threads that is. Called once a process, before any work.
    pub(crate) fn apply(self) -> anyhow::Result<usize> {
        use anyhow::Context;
        let threads = match self.threads {
            Some(threads) => usize::from(threads),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .with_context(|| format!("cannot start {threads} threads"))?;
        Ok(threads)
    }
}

/// Where the network runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct DeviceArgs {
    /// Where the network runs: cpu, cuda or cuda:INDEX
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: vqlc_model::DeviceSpec,
}

/// Where the network runs and in what.
#[derive(Args, Clone, Debug)]
pub(crate) struct NetworkArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// What the network multiplies in: f32 or, on a GPU, bf16, with which some ids differ; token files record it
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    pub(crate) precision: vqlc_model::Precision,
}

impl NetworkArgs {
    /// Where it runs.
    pub(crate) fn device(&self) -> vqlc_model::DeviceSpec {
        self.device.device
    }
}

/// Which tokenizer is used.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ModelFileArgs {
    /// A model file (.safetensors) [default: the model embedded in this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<std::path::PathBuf>,
}

/// Whether an existing output may be replaced.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct ForceArgs {
    /// Replace an existing output
    #[arg(short, long)]
    pub(crate) force: bool,
}
