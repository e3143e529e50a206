//! `vqlc eval reconstruction`: what became of pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use vqlc_format::TokenFile;
use vqlc_model::Tokenizer;
use vqlc_train::measure::{
    CodecPairs, Comparison, Evaluation, FolderPairs, Judges, Pairs, TokenPairs,
};

use crate::{
    cli::{ModelFileArgs, NetworkArgs, OutputArgs, ThreadArgs},
    codecs::{CodecList, Tool},
    default_model,
    exit::Exit,
    interrupt,
    judges::JudgeArgs,
    memory::MemoryArgs,
    rate::{self, RatePoint, Rates},
    report::{Reporter, say},
    safe_path::OutputFolder,
    same_model, text,
};

const EXAMPLES: &str = "\
With ORIGINALS alone, the tokenizer of --model encodes and decodes every picture: the short side is resized to --size (bicubic), the \
centre cut out. With a token file, its pictures are decoded and compared with the same cut of the originals they are named after. With a \
second folder, pictures of the same name are compared, whatever their endings. Both sides are rounded to 8 bits first; the protocol is \
printed with the figures, which are means over pictures. --against codes the same crops with other codecs' programs, each picture to the \
file whose size is nearest to that of its tokens, or to the smallest that the codec can make. FD-EffLite0 is a Fréchet distance on EfficientNet-Lite0, not an FID.

Examples:
  vqlc eval reconstruction held-out
  vqlc eval reconstruction held-out --model run/model.safetensors --efficientnet efficientnet_lite0.safetensors
  vqlc eval reconstruction photos photos.vqt
  vqlc eval reconstruction photos decoded-by-others --size 256
  vqlc eval reconstruction photos photos.vqt --against jpeg,webp,avif,jxl
  vqlc eval reconstruction photos --lpips-vgg vgg16-397923af.pth --lpips-vgg vgg.pth --json";

/// Side of the crops unless another is asked for.
const SIZE: u16 = 256;

/// `vqlc eval reconstruction`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReconstructionArgs {
    /// The folder of original pictures
    #[arg(value_name = "ORIGINALS")]
    originals: PathBuf,
    /// What became of them: a token file or a folder [default: what the tokenizer makes of them]
    #[arg(value_name = "MADE")]
    made: Option<PathBuf>,
    /// Side of the centre crops in pixels [default: 256; of two folders the pictures as they are]
    #[arg(long, value_name = "PIXELS")]
    size: Option<u16>,
    /// Measure other codecs on the same crops at the same sizes: jpeg, webp, avif, jxl, several divided by commas, or all
    #[arg(long, value_name = "CODECS")]
    against: Option<CodecList>,
    #[command(flatten)]
    judges: JudgeArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    model: ModelFileArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &ReconstructionArgs) -> anyhow::Result<Exit> {
    let threads = args.threads.apply()?;
    interrupt::install()?;
    let device = args.network.device().open()?;
    let judges = Judges::open(&args.judges.files(), &device)?;
    let size = args.size.map(usize::from);
    ensure!(size != Some(0), "--size 0: a crop has at least one pixel");
    let found = match &args.made {
        Some(made) if made.is_dir() => {
            ensure!(
                args.model.model.is_none(),
                "--model goes with ORIGINALS alone or a token file; two folders need none"
            );
            if let Some(size) = args.size {
                args.memory.expect_crops(size, 0, 0)?;
            }
            let memory = args.memory.limit();
            let mut pairs = FolderPairs::new(&args.originals, made, size, memory)?;
            measure(args, &judges, &mut pairs)?
        }
        Some(made) => {
            ensure!(
                size.is_none(),
                "--size: a token file says how its pictures were cut"
            );
            tokens(args, &judges, made)?
        }
        None => {
            let tokenizer = default_model::load(&args.model, &args.network)?;
            let size = crop_side(args.size.unwrap_or(SIZE), &tokenizer, args.memory, 0)?;
            measure(
                args,
                &judges,
                &mut CodecPairs::new(&tokenizer, &args.originals, size, threads)?,
            )?
        }
    };
    let Some(found) = found else {
        say("vqlc: interrupted; nothing was measured");
        return Ok(Exit::Interrupted);
    };
    if args.output.json {
        text::print_json(&found)?;
    } else {
        text::print(&found.text())?;
    }
    Ok(if found.evaluation.skipped > 0 {
        Exit::Skipped
    } else {
        Exit::Ok
    })
}

/// What was found.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    evaluation: Evaluation,
    /// Other codecs, each at the size of the tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<RatePoint>,
    /// How they were used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    programs: Vec<String>,
}

impl Found {
    fn text(&self) -> String {
        let mut text = self.evaluation.text();
        let own = &self.evaluation.comparison;
        let Some(rate) = (self.evaluation.bits_per_pixel).filter(|_| !self.others.is_empty())
        else {
            return text;
        };
        let mut line = |name: &str, rate: &str, cells: &mut dyn Iterator<Item = String>| {
            let cells: String = cells.map(|cell| format!("{cell:>14}")).collect();
            text += &format!("{name:<8}{rate:>12}{cells}\n");
        };
        let values = |of: &Comparison| of.rows().into_iter().map(|(_, value)| value);
        let names = own.rows().into_iter().map(|(name, _)| name.to_owned());
        line("", "", &mut std::iter::empty());
        line("codec", "bits/pixel", &mut { names });
        line("vqlc", &format!("{rate:.4}"), &mut values(own));
        for point in &self.others {
            let rate = format!("{:.4}", point.bits_per_pixel);
            line(&point.codec, &rate, &mut values(&point.comparison));
        }
        for program in &self.programs {
            text += &format!("{:<14}{program}\n", "program");
        }
        text
    }
}

/// The pictures of a token file.
fn tokens(
    args: &ReconstructionArgs,
    judges: &Judges,
    made: &Path,
) -> anyhow::Result<Option<Found>> {
    let file = TokenFile::open(made).with_context(|| made.display().to_string())?;
    let tokenizer = default_model::load(&args.model, &args.network)?;
    same_model::expect(made, file.digests(), &tokenizer)?;
    let folder = OutputFolder::new(&args.originals);
    let resolve = |name: &[u8]| folder.place(name).map_err(str::to_owned);
    let mut pairs = TokenPairs::new(&file, made, &tokenizer, &resolve, args.memory.limit())?;
    measure(args, judges, &mut pairs)
}

fn measure(
    args: &ReconstructionArgs,
    judges: &Judges,
    pairs: &mut dyn Pairs,
) -> anyhow::Result<Option<Found>> {
    let reporter = Reporter::new(&args.output);
    let tools = match &args.against {
        Some(codecs) => {
            ensure!(
                pairs.model().is_some(),
                "--against: two folders have no tokens whose size other codecs could take"
            );
            rate::installed(codecs, &reporter)?
        }
        None => Vec::new(),
    };
    let mut rates = Rates::new(&tools, &[1], judges)?;
    let evaluation = rate::measure(pairs, judges, &mut rates, &reporter, &mut |_, _| Ok(()))?;
    let Some(evaluation) = evaluation else {
        return Ok(None);
    };
    let programs = tools.iter().map(Tool::protocol);
    Ok(Some(Found {
        evaluation,
        others: rates.points()?,
        programs: programs.collect::<anyhow::Result<_>>()?,
    }))
}

/// `--size` as the side of crops that make whole grids and fit into memory beside `kept` bytes.
pub(crate) fn crop_side(
    size: u16,
    tokenizer: &Tokenizer,
    memory: MemoryArgs,
    kept: u64,
) -> anyhow::Result<usize> {
    let side = usize::from(size);
    ensure!(
        side > 0 && side.is_multiple_of(tokenizer.factor()),
        "--size {size} is not a multiple of {}",
        tokenizer.factor()
    );
    memory.expect_crops(size, tokenizer.memory_estimate(side, side), kept)?;
    Ok(side)
}
