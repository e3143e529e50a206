//! `vqlc train evaluate`: what a tokenizer is worth on a folder of pictures.

use std::path::PathBuf;

use clap::Args;
use vqlc_model::Tokenizer;
use vqlc_train::trainer;

use crate::{
    cli::{ModelFileArgs, NetworkArgs, OutputArgs, ThreadArgs},
    default_model,
    exit::Exit,
    text,
};

const EXAMPLES: &str = "\
Every picture's short side is resized to --size (bicubic), the centre is cut out, and both sides are compared as \
8-bit pictures: means over pictures. With EfficientNet-Lite0's weights also the perceptual distance and the \
Fréchet distance on its features; the latter is no FID.

Examples:
  vqlc train evaluate held-out
  vqlc train evaluate --model run/model.safetensors --weights efficientnet_lite0.safetensors held-out";

/// `vqlc train evaluate IMAGES`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EvaluateArgs {
    /// The folder of pictures
    #[arg(value_name = "IMAGES")]
    images: PathBuf,
    #[command(flatten)]
    model: ModelFileArgs,
    /// EfficientNet-Lite0's weights, for the perceptual and the Fréchet distance
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Side of the crops, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 256)]
    size: u16,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &EvaluateArgs) -> anyhow::Result<Exit> {
    let threads = args.threads.apply()?;
    let tokenizer = default_model::load(&args.model, &args.network)?;
    let size = side(args.size, &tokenizer)?;
    let found = trainer::evaluate(
        &tokenizer,
        &args.images,
        size,
        threads,
        args.weights.as_deref(),
    )?;
    if args.output.json {
        text::print_json(&found)?;
    } else {
        text::print(&found.text())?;
    }
    Ok(if found.skipped > 0 {
        Exit::Skipped
    } else {
        Exit::Ok
    })
}

/// `--size` as the side of crops that make whole grids.
pub(super) fn side(size: u16, tokenizer: &Tokenizer) -> anyhow::Result<usize> {
    let side = usize::from(size);
    anyhow::ensure!(
        side > 0 && side.is_multiple_of(tokenizer.factor()),
        "--size {size} is not a multiple of {}",
        tokenizer.factor()
    );
    Ok(side)
}
