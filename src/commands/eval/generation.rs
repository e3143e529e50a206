//! `vqlc eval generation`: what a generator made, beside pictures as they should be.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use vqlc_format::TokenFile;
use vqlc_train::{
    measure::{
        FolderSet, Gathered, Generation, Judges, Keep, PictureSet, Reference, SetFacts,
        TokenPictures, gather, known,
    },
    metrics::{NEIGHBOURS, Statistics},
};

use crate::{
    cli::{ForceArgs, ModelFileArgs, NetworkArgs, OutputArgs, ThreadArgs},
    default_model,
    exit::Exit,
    interrupt,
    judges::FeatureArgs,
    memory::MemoryArgs,
    outputs::may_write,
    report::{Reporter, say},
    same_model, text,
};

const EXAMPLES: &str = "\
Both sides are folders or token files, whose first views are decoded. With --inception: FID, and of MADE the Inception Score over ten parts; \
with --efficientnet FD-EffLite0, which is no FID. Pictures are taken as they are and resized by the networks' own rules; with --size the \
short sides of pictures in folders are resized to it first (bicubic) and the centres cut out. The networks' distances depend on how many \
pictures there are: compare figures of equal counts only.

Statistics are pytorch-fid's .npz files: those of others are read, and ours by it. Such a REFERENCE has no precision and recall.

Examples:
  vqlc eval generation samples.vqt photos --size 256 --inception pt_inception-2015-12-05-6726825d.pth
  vqlc eval generation samples photos --efficientnet efficientnet_lite0.safetensors --precision-recall
  vqlc eval generation samples photos --inception inception.pth --save-statistics photos.npz
  vqlc eval generation samples.vqt photos.npz --inception inception.pth --json";

/// `vqlc eval generation`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GenerationArgs {
    /// The pictures to measure: a folder or a token file
    #[arg(value_name = "MADE")]
    made: PathBuf,
    /// The pictures to measure them against: a folder, a token file, or a file of statistics (.npz)
    #[arg(value_name = "REFERENCE")]
    reference: PathBuf,
    /// Side of centre crops of the pictures in folders, pixels [default: the pictures as they are]
    #[arg(long, value_name = "PIXELS")]
    size: Option<u16>,
    /// Also precision and recall (Kynkäänniemi et al. 2019, 3 neighbours); time grows with the product of the counts
    #[arg(long)]
    precision_recall: bool,
    /// Write the reference's statistics to this file (.npz), to be used again
    #[arg(long, value_name = "FILE")]
    save_statistics: Option<PathBuf>,
    #[command(flatten)]
    judges: FeatureArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    model: ModelFileArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &GenerationArgs) -> anyhow::Result<Exit> {
    args.threads.apply()?;
    if let Some(path) = &args.save_statistics {
        may_write(path, args.force.force)?;
    }
    ensure!(
        args.judges.any(),
        "name a network to look at the pictures with: --inception FILE for FID, --efficientnet FILE for FD-EffLite0"
    );
    ensure!(
        args.size != Some(0),
        "--size 0: a crop has at least one pixel"
    );
    let from_file = is_statistics(&args.reference);
    ensure!(
        args.size.is_none() || args.made.is_dir() || args.reference.is_dir(),
        "--size cuts pictures in folders; a token file says how its pictures were cut"
    );
    if let Some(size) = args.size {
        args.memory.expect_crops(size, 0, 0)?;
    }
    ensure!(
        !from_file || (args.save_statistics.is_none() && !args.precision_recall),
        "{} holds statistics: there are no pictures for --precision-recall or --save-statistics",
        args.reference.display()
    );
    interrupt::install()?;
    let device = args.network.device().open()?;
    let judges = Judges::open(&args.judges.files(), &device)?;
    // Before the pictures are looked at, which may take long.
    let statistics = match from_file {
        true => Some(Box::new(Statistics::read(&args.reference)?)),
        false => None,
    };
    if let Some(statistics) = &statistics {
        known(statistics, &judges).with_context(|| args.reference.display().to_string())?;
    }
    ensure!(
        args.save_statistics.is_none() || args.judges.one(),
        "--save-statistics: a file of statistics is of one network: name one"
    );
    let features = args.precision_recall;
    let keep = Keep {
        features,
        classes: true,
    };
    let Some(made) = look(args, &judges, &args.made, "looking at MADE", keep)? else {
        return Ok(stopped());
    };
    let reference = match statistics {
        Some(statistics) => Reference::Statistics(statistics),
        None => {
            let keep = Keep {
                features,
                classes: false,
            };
            let seen = look(args, &judges, &args.reference, "looking at REFERENCE", keep)?;
            let Some(seen) = seen else {
                return Ok(stopped());
            };
            if let Some(path) = &args.save_statistics {
                seen.statistics(&judges)?.write(path)?;
            }
            Reference::Pictures(seen)
        }
    };
    let found = Generation::new(&made, &reference, &judges)?;
    let few = |facts: &SetFacts| {
        facts
            .pictures
            .is_some_and(|count| count <= NEIGHBOURS as u64)
    };
    ensure!(
        !args.precision_recall || !(few(&found.made) || few(&found.reference)),
        "--precision-recall takes more than {NEIGHBOURS} pictures on each side, found {} and {}",
        found.made.pictures.unwrap_or(0),
        found.reference.pictures.unwrap_or(0)
    );
    if args.output.json {
        text::print_json(&found)?;
    } else {
        text::print(&found.text())?;
    }
    let left_out = found.made.left_out.len() + found.reference.left_out.len();
    Ok(if left_out > 0 {
        Exit::Skipped
    } else {
        Exit::Ok
    })
}

fn stopped() -> Exit {
    say("vqlc: interrupted; nothing was measured");
    Exit::Interrupted
}

fn is_statistics(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("npz"))
}

/// What the networks see in a folder or a token file; `None` where it was interrupted.
fn look(
    args: &GenerationArgs,
    judges: &Judges,
    path: &Path,
    what: &'static str,
    keep: Keep,
) -> anyhow::Result<Option<Gathered>> {
    let reporter = Reporter::new(&args.output);
    let all = |set: &mut dyn PictureSet| {
        let progress = reporter.progress(what, set.total(), 0);
        let seen = gather(set, judges, keep, &mut |pictures| {
            progress.reach(pictures);
            !interrupt::requested()
        });
        progress.finish();
        seen.with_context(|| path.display().to_string())
    };
    if path.is_dir() {
        return all(&mut FolderSet::new(path, args.size.map(usize::from))?);
    }
    let file = TokenFile::open(path).with_context(|| path.display().to_string())?;
    let tokenizer = default_model::load(&args.model, &args.network)?;
    same_model::expect(path, file.digests(), &tokenizer)?;
    let memory = args.memory.limit();
    all(&mut TokenPictures::new(&file, path, &tokenizer, memory)?)
}
