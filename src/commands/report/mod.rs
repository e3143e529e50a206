//! `vqlc report`: one page that shows what a tokenizer does to pictures.

mod charts;
mod gallery;
mod gather;
mod page;
mod svg;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use vqlc_train::{
    files::write_whole,
    inspect::{principal_plane, read_curves},
    measure::{Evaluation, Judges},
};

use self::gather::{Wanted, gather};
use crate::{
    cli::{ForceArgs, ModelFileArgs, NetworkArgs, OutputArgs, ThreadArgs},
    codecs::{CodecList, Tool},
    commands::eval::reconstruction::crop_side,
    default_model,
    exit::Exit,
    interrupt,
    judges::JudgeArgs,
    memory::MemoryArgs,
    outputs::may_write,
    rate::{self, RatePoint},
    report::{Reporter, say},
    text,
};

const EXAMPLES: &str = "\
The page is a single file that needs no network: figures with the protocol they were measured by, pictures beside their reconstructions \
and the worst ones, rate and distortion, how the codebook is used and what it looks like, and what happens when every token is replaced by \
a neighbour. The same pictures and the same model give the same bytes.

Examples:
  vqlc report report.html --images held-out
  vqlc report report.html --images held-out --model run/model.safetensors --run run --efficientnet efficientnet_lite0.safetensors
  vqlc report report.html --images held-out --against jpeg,webp,avif,jxl
  vqlc report report.html --images held-out --show birds/rooster.jpg --show fruit/orange.jpg --worst 0";

/// `vqlc report OUT`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    /// The page to write, HTML
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// The folder of pictures to measure
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Side of the centre crops in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 256)]
    size: u16,
    /// Show this picture, by its name relative to the folder; may be given several times [default: --pictures of them]
    #[arg(long, value_name = "NAME", conflicts_with = "pictures")]
    show: Vec<String>,
    /// Show so many pictures, from the whole folder
    #[arg(long, value_name = "N", default_value_t = 6)]
    pictures: u8,
    /// Show so many of the worst pictures by PSNR
    #[arg(long, value_name = "N", default_value_t = 3)]
    worst: u8,
    /// Show the curves of this training run
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// Measure other codecs beside: jpeg, webp, avif, jxl, several divided by commas, or all
    #[arg(long, value_name = "CODECS")]
    against: Option<CodecList>,
    #[command(flatten)]
    judges: JudgeArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    model: ModelFileArgs,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The figures of the page.
#[derive(Serialize)]
struct Figures<'a> {
    file: String,
    bytes: usize,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    codes: usize,
    utilisation: f64,
    perplexity: f64,
    rates: &'a [RatePoint],
    /// How the other codecs were used.
    programs: &'a [String],
    /// Shares of the codebook's variance along its first two principal axes.
    variance_shown: Option<[f64; 2]>,
    replaced: Vec<Rank>,
}

/// Pictures whose tokens were replaced.
#[derive(Serialize)]
struct Rank {
    rank: usize,
    pictures: u64,
    psnr: f64,
    ssim: f64,
}

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<Exit> {
    let threads = args.threads.apply()?;
    let reporter = Reporter::new(&args.output);
    may_write(&args.out, args.force.force)?;
    // What can be wrong is found before the work.
    let curves = args
        .run
        .as_ref()
        .map(|run| read_curves(&run.join("metrics.jsonl")))
        .transpose()?;
    interrupt::install()?;
    let file = default_model::read(args.model.model.as_deref())?;
    let tokenizer = default_model::build(&file, &args.model, &args.network)?;
    // Every picture shown is held with what became of it, and once more as text.
    let shown = args.show.len() as u64 + u64::from(args.pictures) + u64::from(args.worst);
    let kept = shown.saturating_mul(u64::from(args.size).pow(2) * 12);
    let size = crop_side(args.size, &tokenizer, args.memory, kept)?;
    let judges = Judges::open(&args.judges.files(), tokenizer.device())?;
    let tools = match &args.against {
        Some(codecs) => rate::installed(codecs, &reporter)?,
        None => Vec::new(),
    };
    let wanted = Wanted {
        folder: &args.images,
        size,
        names: &args.show,
        pictures: args.pictures.into(),
        worst: args.worst.into(),
        tools: &tools,
    };
    let plane = (tokenizer.codebook_size() > 1)
        .then(|| principal_plane(tokenizer.codebook(), tokenizer.config().embed_dim))
        .transpose()
        .context("the map of the codebook")?;
    let Some(gathered) = gather(&tokenizer, &judges, &wanted, threads, &reporter)? else {
        say("vqlc: interrupted; nothing was written");
        return Ok(Exit::Interrupted);
    };
    let evaluation = &gathered.evaluation;
    for name in &evaluation.left_out {
        reporter.note(&format!("left out {name}"));
    }
    let mut rates = vec![RatePoint {
        codec: charts::OWN.into(),
        bits_per_pixel: evaluation.bits_per_pixel.unwrap_or(f64::NAN),
        comparison: evaluation.comparison.clone(),
    }];
    rates.extend(gathered.others.iter().cloned());
    let programs: Vec<String> = tools
        .iter()
        .map(Tool::protocol)
        .collect::<anyhow::Result<_>>()?;
    let html = page::Page {
        model: &file,
        model_path: args.model.model.as_deref(),
        gathered: &gathered,
        rates: &rates,
        programs: &programs,
        plane: plane.as_ref(),
        curves: curves.as_ref(),
    }
    .html()?
    .into_string();
    write_whole(&args.out, html.as_bytes())?;
    if args.output.json {
        let replaced = gathered.replaced.iter().map(|r| Rank {
            rank: r.rank,
            pictures: r.pictures,
            psnr: r.psnr,
            ssim: r.ssim,
        });
        text::print_json(&Figures {
            file: args.out.display().to_string(),
            bytes: html.len(),
            evaluation,
            codes: evaluation.usage.counts().len(),
            utilisation: evaluation.usage.share(),
            perplexity: evaluation.usage.perplexity(),
            rates: &rates,
            programs: &programs,
            variance_shown: plane.map(|plane| plane.shares),
            replaced: replaced.collect(),
        })?;
    } else {
        reporter.note(&format!(
            "{}: {}, {}",
            args.out.display(),
            text::things(evaluation.comparison.pictures, "picture"),
            text::bytes(html.len() as u64)
        ));
    }
    Ok(if evaluation.skipped > 0 {
        Exit::Skipped
    } else {
        Exit::Ok
    })
}
