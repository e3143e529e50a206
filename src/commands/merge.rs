//! `vqlc merge`: the shards of one job become the file that one run would have written.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::{
    cli::{ForceArgs, OutputArgs},
    exit::Exit,
    outputs::with_force_hint,
    text,
};

const EXAMPLES: &str = "\
The shards are joined in the order given, and must come from one job: the same model, \
preprocessing, grid, views and classes. Shards made with `compress --shard 1/4` to `--shard 4/4` \
and merged in that order give the bytes of one undivided run.

Examples:
  vqlc merge train-1.vqt train-2.vqt train-3.vqt train-4.vqt train.vqt
  vqlc merge train-0000?-of-00008.vqt train.vqt";

/// `vqlc merge IN... OUT`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MergeArgs {
    /// The shards, in order
    #[arg(required = true, num_args = 1.., value_name = "IN")]
    inputs: Vec<PathBuf>,
    /// The token file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    out: OutputArgs,
}

pub(crate) fn run(args: MergeArgs) -> anyhow::Result<Exit> {
    let summary = vqlc_format::merge(&args.inputs, &args.output, args.force.force)
        .map_err(with_force_hint)
        .with_context(|| format!("merging into {}", args.output.display()))?;
    if args.out.json {
        text::print_json(&text::Written::new(&args.output, &summary))?;
    } else if !args.out.quiet {
        eprintln!(
            "{} merged into {}: {}, {}",
            text::things(args.inputs.len() as u64, "file"),
            args.output.display(),
            text::things(summary.pictures, "picture"),
            text::bytes(summary.file_len)
        );
    }
    Ok(Exit::Ok)
}
