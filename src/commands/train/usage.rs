//! `vqlc train usage`: how much of its codebook a tokenizer uses.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use vqlc_train::{
    data::{Augment, DEFAULT_CACHE_BYTES, Pictures, Source},
    trainer::{UsageOptions, UsageReport, count_usage},
};

use crate::{
    cli::{ForceArgs, ModelFileArgs, NetworkArgs, OutputArgs, ThreadArgs},
    commands::eval::reconstruction::crop_side,
    default_model,
    exit::Exit,
    interrupt,
    memory::MemoryArgs,
    outputs::may_write,
    report::{Reporter, say, shown},
    text,
};

const EXAMPLES: &str = "\
Ids are counted over one plain pass of centre crops, and over seeded crops and mirrored ones until there are \
--tokens-per-code tokens for each entry (100: the paper's definition). An entry is used where an id names it at \
least once; perplexity is exp of the entropy of the ids.

Examples:
  vqlc train usage photos
  vqlc train usage --model run/model.safetensors --counts counts.safetensors photos
  vqlc train usage --tokens-per-code 0 photos        # the plain pass only";

/// `vqlc train usage IMAGES`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UsageArgs {
    /// The folder of pictures, best those that the tokenizer was trained on
    #[arg(value_name = "IMAGES")]
    images: PathBuf,
    #[command(flatten)]
    model: ModelFileArgs,
    /// Side of the crops, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 256)]
    size: u16,
    /// Tokens of seeded crops to count, for each entry of the codebook
    #[arg(long, value_name = "N", default_value_t = 100)]
    tokens_per_code: u64,
    /// Seeded crops are cut from pictures whose short side is resized to between 1 and this times --size
    #[arg(long, value_name = "X", default_value_t = 1.25)]
    max_scale: f64,
    /// What the crops are drawn from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write the counts of every entry to this file (safetensors: plain and crops, i64)
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    codes: u64,
    #[serde(flatten)]
    usage: UsageReport,
    skipped: usize,
}

pub(crate) fn run(args: &UsageArgs) -> anyhow::Result<Exit> {
    let threads = args.threads.apply()?;
    let reporter = Reporter::new(&args.output);
    if let Some(path) = &args.counts {
        may_write(path, args.force.force)?;
    }
    interrupt::install()?;
    let tokenizer = default_model::load(&args.model, &args.network)?;
    let options = UsageOptions {
        size: crop_side(args.size, &tokenizer, MemoryArgs::default(), 0)?,
        augment: Augment {
            max_scale: args.max_scale,
            ..Augment::default()
        },
        seed: args.seed,
        tokens_per_code: args.tokens_per_code,
        threads,
    };
    let pictures = Pictures::scan(&args.images, true)?;
    let per_picture = (options.size / tokenizer.factor()).pow(2) as u64;
    let codes = tokenizer.codebook_size();
    let crops = options.wanted(codes as usize)?.div_ceil(per_picture);
    let progress = reporter.progress("counting", pictures.count() as u64 + crops, 0);
    let source = Source::new(pictures, DEFAULT_CACHE_BYTES);
    let counts = count_usage(&tokenizer, &source, &options, &mut |counts| {
        progress.reach((counts.plain.tokens() + counts.crops.tokens()) / per_picture);
        !interrupt::requested()
    })?;
    progress.finish();
    let Some(counts) = counts else {
        say("vqlc: interrupted while counting; nothing was written");
        return Ok(Exit::Interrupted);
    };
    let skipped = source.skipped();
    for picture in &skipped {
        reporter.note(&format!(
            "skipped {}: {}",
            shown(picture.name.as_os_str().as_encoded_bytes()),
            picture.reason
        ));
    }
    let found = Found {
        codes: u64::from(codes),
        usage: counts.report(),
        skipped: skipped.len(),
    };
    if let Some(path) = &args.counts {
        counts.write(path)?;
    }
    if args.output.json {
        text::print_json(&found)?;
    } else {
        text::print(&lines(&found.usage))?;
    }
    Ok(if skipped.is_empty() {
        Exit::Ok
    } else {
        Exit::Skipped
    })
}

/// The figures as lines of text; crops that were not counted have none.
pub(super) fn lines(usage: &UsageReport) -> String {
    let ways = [("plain pass", &usage.plain), ("seeded crops", &usage.crops)];
    let counted = ways.into_iter().filter(|(_, share)| share.tokens > 0);
    counted
        .map(|(name, share)| {
            format!(
                "{name:<14}{:.2} % of the entries used by {} tokens, perplexity {:.0}\n",
                100.0 * share.utilisation,
                text::count(share.tokens),
                share.perplexity
            )
        })
        .collect()
}
