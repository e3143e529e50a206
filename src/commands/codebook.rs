//! `vqlc codebook`: the static codebook that training starts from, made of a folder of pictures and a pretrained encoder.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use vqlc_train::{
    backbone::{Backbone, BackboneKind},
    codebook::{self, Codebook, Iteration, Provenance, Select, Settings, Watch},
    data::Pictures,
};

use crate::{
    cli::{DeviceArgs, ForceArgs, OutputArgs, ThreadArgs},
    exit::Exit,
    interrupt,
    memory::parse_size,
    outputs::may_write,
    process,
    report::{Progress, Reporter, shown},
    text,
};

const EXAMPLES: &str = "\
Patch features of the pictures are clustered; the centres are the codebook. The start is a seeded \
draw, and the same command gives the same file on any number of threads. Features are kept in \
memory; where they do not fit into --feature-budget, a seeded sample of them is. With two \
cores, 100,000 codes and a million features of EfficientNet-Lite0, an iteration takes \
minutes: choose --iterations accordingly.

Examples:
  vqlc codebook photos/ codebook.safetensors --backbone efficientnet-lite0 \\
      --weights efficientnet_lite0.safetensors --codes 100000
  vqlc codebook info codebook.safetensors";

/// `vqlc codebook IMAGES OUT`, `vqlc codebook info FILE`
#[derive(Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct CodebookArgs {
    #[command(subcommand)]
    command: Option<CodebookCommand>,
    #[command(flatten)]
    build: BuildArgs,
}

#[derive(Subcommand)]
enum CodebookCommand {
    /// Say what a codebook file holds, and how large its clusters are
    Info(InfoArgs),
}

/// `vqlc codebook info FILE`
#[derive(Args)]
#[command(after_help = "Example:\n  vqlc codebook info codebook.safetensors")]
struct InfoArgs {
    /// A codebook file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    out: OutputArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SelectArg {
    /// Centres of K-means clusters
    #[default]
    Kmeans,
    /// Features drawn at random, all different
    Random,
}

/// What clap requires is an option all the same: with a command in its place, it is not there.
#[derive(Args)]
struct BuildArgs {
    /// A folder of pictures; those in folders inside it count too
    #[arg(value_name = "IMAGES", required = true)]
    images: Option<PathBuf>,
    /// The codebook file to write (.safetensors)
    #[arg(value_name = "OUT", required = true)]
    output: Option<PathBuf>,
    /// The pretrained encoder whose features are clustered: clip-vit-l14, clip-vit-b16, clip-rn50 or efficientnet-lite0
    #[arg(long, value_name = "NAME", required = true)]
    backbone: Option<BackboneKind>,
    /// Its weights: .safetensors, or a PyTorch checkpoint
    #[arg(long, value_name = "FILE", required = true)]
    weights: Option<PathBuf>,
    /// Number of entries
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    codes: u32,
    /// How entries are chosen
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    select: SelectArg,
    /// Cluster each folder of pictures by itself, with an equal share of the codes
    #[arg(long)]
    per_class: bool,
    /// Average features over squares of P x P patches [default: the backbone's own]
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u8).range(1..))]
    pool: Option<u8>,
    /// Seed of everything drawn
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Most K-means iterations; fewer are made if nothing moves any more
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    iterations: u32,
    /// Views of each picture: its centre, then random crops at random scales
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    views: u32,
    /// Memory for features, as 500M or 4G; of more, a seeded sample is kept
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_size)]
    feature_budget: u64,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Go on with a job that was stopped
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    out: OutputArgs,
}

pub(crate) fn run(args: CodebookArgs) -> anyhow::Result<Exit> {
    match args.command {
        Some(CodebookCommand::Info(args)) => info(&args),
        None => build(&args.build),
    }
}

fn build(args: &BuildArgs) -> anyhow::Result<Exit> {
    let (Some(images), Some(output), Some(backbone), Some(weights)) =
        (&args.images, &args.output, args.backbone, &args.weights)
    else {
        bail!("IMAGES, OUT, --backbone and --weights are needed");
    };
    may_write(output, args.force.force)?;
    let state = codebook::state_path(output);
    ensure!(
        args.resume || args.force.force || !state.exists(),
        "{} of a job that was stopped is there (--resume goes on with it, --force starts anew)",
        state.display()
    );
    args.threads.apply()?;
    interrupt::install()?;
    let pictures = Pictures::scan(images, false)?;
    let device = args.device.device.open()?;
    let backbone = Backbone::open(backbone, weights, &device)?;
    let settings = Settings {
        codes: args.codes as usize,
        select: match args.select {
            SelectArg::Kmeans => Select::Kmeans,
            SelectArg::Random => Select::Random,
        },
        per_class: args.per_class,
        pool: args.pool.map(usize::from),
        seed: args.seed,
        iterations: args.iterations,
        views: args.views,
        feature_budget: args.feature_budget,
    };
    let told = Told::new(&args.out, pictures.count() as u64);
    let built = codebook::make(&pictures, &backbone, &settings, output, args.resume, &told);
    told.finish();
    let Some(codebook) = built? else {
        told.reporter.note(
            "vqlc: interrupted; the same command with --resume goes on from the last iteration, if one was finished",
        );
        return Ok(Exit::Interrupted);
    };
    let shown = Info::new(output, &codebook);
    if args.out.json {
        text::print_json(&shown)?;
    } else {
        told.reporter.note(&format!(
            "{}: {} of {} numbers, {}",
            output.display(),
            text::things(codebook.codes() as u64, "code"),
            codebook.dim(),
            text::bytes(shown.bytes.unwrap_or_default())
        ));
    }
    let unreadable = codebook.provenance().map_or(0, |from| from.unreadable);
    Ok(if unreadable > 0 {
        Exit::Skipped
    } else {
        Exit::Ok
    })
}

/// Says how far the work is.
pub(crate) struct Told {
    reporter: Reporter,
    pictures: Progress,
    started: OnceLock<std::time::Instant>,
}

impl Told {
    pub(crate) fn new(out: &OutputArgs, pictures: u64) -> Self {
        process::keep_freed_memory();
        let reporter = Reporter::new(out);
        Self {
            reporter,
            pictures: reporter.progress("features", pictures, 0),
            started: OnceLock::new(),
        }
    }

    pub(crate) fn finish(&self) {
        self.pictures.finish();
    }
}

impl Watch for Told {
    fn pictures(&self, done: u64, total: u64) {
        self.pictures.reach(done);
        if done == total {
            self.pictures.finish();
            self.started.get_or_init(std::time::Instant::now);
        }
    }

    fn unreadable(&self, name: &Path, why: &str) {
        let name = shown(name.as_os_str().as_encoded_bytes());
        self.pictures.warn(&format!("vqlc: {name}: {why}"));
    }

    fn sampled(&self, all: u64, kept: u64) {
        if kept < all {
            self.reporter.note(&format!(
                "a sample of {} of {} is kept, within the budget",
                text::count(kept),
                text::things(all, "feature")
            ));
        }
    }

    fn iteration(&self, made: &Iteration) {
        let seconds = (self.started.get()).map_or(0.0, |start| start.elapsed().as_secs_f64());
        self.reporter.note(&format!(
            "iteration {}: inertia {:.6} a feature, {:.2} % moved, {} empty, {} re-seeded ({})",
            made.number,
            made.inertia / made.features.max(1) as f64,
            100.0 * made.moved as f64 / made.features.max(1) as f64,
            text::count(made.empty),
            text::count(made.reseeded),
            crate::report::span(seconds),
        ));
    }

    fn stop(&self) -> bool {
        interrupt::requested()
    }
}

/// Cluster sizes at shares of the codes: of how many features an entry is the mean.
#[derive(Serialize)]
struct Sizes {
    least: u32,
    tenth: u32,
    median: u32,
    ninetieth: u32,
    most: u32,
    mean: f64,
    /// Entries that are one feature.
    single: u64,
}

impl Sizes {
    fn of(counts: &[u32]) -> Option<Self> {
        let mut sorted = counts.to_vec();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |percent: usize| sorted[last * percent / 100];
        Some(Self {
            least: at(0),
            tenth: at(10),
            median: at(50),
            ninetieth: at(90),
            most: at(100),
            mean: sorted.iter().map(|&n| f64::from(n)).sum::<f64>() / sorted.len() as f64,
            single: sorted.iter().filter(|&&n| n == 1).count() as u64,
        })
    }
}

#[derive(Serialize)]
struct Info<'a> {
    file: String,
    bytes: Option<u64>,
    codes: usize,
    dim: usize,
    digest: String,
    sizes: Option<Sizes>,
    provenance: Option<&'a Provenance>,
}

impl<'a> Info<'a> {
    fn new(path: &Path, codebook: &'a Codebook) -> Self {
        Self {
            file: path.display().to_string(),
            bytes: path.metadata().ok().map(|meta| meta.len()),
            codes: codebook.codes(),
            dim: codebook.dim(),
            digest: vqlc_model::digest::hex(&codebook.digest()),
            sizes: Sizes::of(codebook.counts()),
            provenance: codebook.provenance(),
        }
    }

    fn print(&self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let mut line = |key: &str, value: String| writeln!(out, "{key:<14} {value}");
        let size = self
            .bytes
            .map_or_else(String::new, |bytes| format!(" ({})", text::bytes(bytes)));
        line("file", format!("{}{size}", self.file))?;
        line(
            "entries",
            format!("{} of {} numbers", text::count(self.codes as u64), self.dim),
        )?;
        line("digest", self.digest.clone())?;
        if let Some(sizes) = &self.sizes {
            line(
                "cluster sizes",
                format!(
                    "{} least, {} / {} / {} at 10 / 50 / 90 %, {} most, {:.1} on average",
                    sizes.least, sizes.tenth, sizes.median, sizes.ninetieth, sizes.most, sizes.mean
                ),
            )?;
            line("", format!("{} are one feature", text::count(sizes.single)))?;
        }
        let Some(from) = self.provenance else {
            line("provenance", "not recorded".into())?;
            return Ok(());
        };
        line(
            "backbone",
            format!("{}, {} x {} pooling", from.backbone, from.pool, from.pool),
        )?;
        line("weights", from.weights.clone())?;
        line(
            "pictures",
            format!(
                "{}, {} unreadable, {} each",
                text::count(from.picture_count),
                text::count(from.unreadable),
                text::things(u64::from(from.views), "view")
            ),
        )?;
        line("", from.pictures.clone())?;
        line(
            "features",
            format!(
                "{}, {} kept",
                text::count(from.features),
                text::count(from.kept)
            ),
        )?;
        let how = match (from.select, from.inertia) {
            (Select::Kmeans, Some(inertia)) => format!(
                "{} of K-means, inertia {:.6} a feature",
                text::things(u64::from(from.iterations), "iteration"),
                inertia / from.kept.max(1) as f64
            ),
            _ => "drawn at random".into(),
        };
        let classes = from
            .classes
            .map_or_else(String::new, |n| format!(", {n} classes apart"));
        line("made by", format!("{how}, seed {}{classes}", from.seed))?;
        line("divided by", from.scale.to_string())?;
        line("vqlc", from.version.clone())?;
        Ok(())
    }
}

fn info(args: &InfoArgs) -> anyhow::Result<Exit> {
    let codebook = Codebook::read(&args.file)?;
    let info = Info::new(&args.file, &codebook);
    if args.out.json {
        text::print_json(&info)?
    } else {
        info.print()?
    }
    Ok(Exit::Ok)
}
