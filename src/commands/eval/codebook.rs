//! `vqlc eval codebook`: how token files use their codebook, and what their ids carry.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use vqlc_format::{Mapped, TokenFile};
use vqlc_train::metrics::{
    CodeLengths, Conditional, EntropyReport, IdStatistics, UsageShare, write_counts,
};

use crate::{
    cli::{ForceArgs, OutputArgs},
    default_model,
    exit::{Exit, fail},
    interrupt,
    outputs::may_write,
    report::{Reporter, say},
    same_model::Comparison,
    text,
};

const EXAMPLES: &str = "\
First views only: others show the same pictures. The files must be of one tokenizer; they are read one behind the other.

Entropies are those of the shares counted and too small on average: with a large codebook most pairs of neighbours are seen once, and \
those given a neighbour say little. What a coder can save is said by the adaptive codes: they learn the ids while they write them, know \
nothing beforehand, and need the bits given, as an arithmetic coder would write them. Order 0 predicts by how often each id came before \
(absolute discounting, what is left goes to all entries alike); mixed weighs that and what came beside the same left and below the same \
upper neighbour. Such a code is read from its beginning only, which token files are not. adaptive_since_mark in --json is the last tenth \
of the pictures.

Memory grows with the number of distinct pairs of neighbours, by 50 to 100 bytes for each token whose pairs are new.

Examples:
  vqlc eval codebook train.vqt
  vqlc eval codebook --counts counts.safetensors shards/*.vqt
  vqlc eval codebook --model run/model.safetensors --json val.vqt";

/// The last of so many parts of the pictures is measured by itself too.
const PARTS: u64 = 10;
/// Entries that are counted, as many as the network may have.
const MOST_ENTRIES: u32 = 1 << 24;

/// `vqlc eval codebook FILES`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CodebookArgs {
    /// Token files of one tokenizer
    #[arg(value_name = "FILES", required = true)]
    files: Vec<PathBuf>,
    /// Refuse files that this model's tokenizer did not make
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Write the counts of every entry to this file (safetensors: plain, i64)
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was found, and in what.
#[derive(Serialize)]
struct Found {
    files: Vec<Measured>,
    codebook_size: u32,
    codebook_digest: String,
    /// Which views were counted.
    views: &'static str,
    pictures: u64,
    bits_stored: u32,
    used: usize,
    #[serde(flatten)]
    usage: UsageShare,
    /// Bits a token.
    bits: EntropyReport,
    program: &'static str,
}

#[derive(Serialize)]
struct Measured {
    file: String,
    content: String,
    pictures: u64,
}

pub(crate) fn run(args: &CodebookArgs) -> anyhow::Result<Exit> {
    let reporter = Reporter::new(&args.output);
    if let Some(path) = &args.counts {
        may_write(path, args.force.force)?;
    }
    let files = open(&args.files, args.model.as_deref())?;
    let pictures: u64 = files.iter().map(|(_, file)| file.pictures()).sum();
    ensure!(pictures > 0, "there is no picture in the token files");
    interrupt::install()?;
    let first = &files[0].1;
    let mut statistics = IdStatistics::new(first.codebook_size() as usize);
    let progress = reporter.progress("counting", pictures, 0);
    let last_part = pictures - pictures.div_ceil(PARTS);
    let mut ids = Vec::new();
    let mut done = 0;
    for (path, file) in &files {
        let name = || path.display().to_string();
        for picture in 0..file.pictures() {
            if interrupt::requested() {
                progress.finish();
                say("vqlc: interrupted while counting; nothing was written");
                return Ok(Exit::Interrupted);
            }
            if done == last_part && pictures >= PARTS {
                statistics.mark();
            }
            let record = picture * file.views().len() as u64;
            let (_, cols) = file.get(record, &mut ids).with_context(name)?;
            statistics.add(&ids, cols as usize).with_context(name)?;
            done += 1;
            progress.reach(done);
        }
    }
    progress.finish();
    let usage = statistics.usage();
    let found = Found {
        files: files
            .iter()
            .map(|(path, file)| Measured {
                file: path.display().to_string(),
                content: file.content().to_string(),
                pictures: file.pictures(),
            })
            .collect(),
        codebook_size: first.codebook_size(),
        codebook_digest: first.digests().codebook.to_string(),
        views: "first",
        pictures,
        bits_stored: first.bits(),
        used: usage.used(),
        usage: UsageShare::of(usage),
        bits: statistics.report(),
        program: concat!("vqlc ", env!("CARGO_PKG_VERSION")),
    };
    // Before stdout, which may be closed.
    if let Some(path) = &args.counts {
        write_counts(path, &[("plain", usage)])?;
    }
    if args.output.json {
        text::print_json(&found)?;
    } else {
        text::print(&found.lines(args.output.verbose))?;
    }
    Ok(Exit::Ok)
}

/// Opens the files and sees that their ids mean the same things and that none is there twice.
fn open(
    paths: &[PathBuf],
    model: Option<&Path>,
) -> anyhow::Result<Vec<(PathBuf, TokenFile<Mapped>)>> {
    let model = model
        .map(|path| default_model::digests(Some(path)))
        .transpose()?;
    let mut files: Vec<(PathBuf, TokenFile<Mapped>)> = Vec::with_capacity(paths.len());
    for path in paths {
        let name = path.display();
        let file = TokenFile::open(path).with_context(|| name.to_string())?;
        ensure!(
            file.codebook_size() <= MOST_ENTRIES,
            "{name}: a codebook of {} entries; up to {} can be counted",
            text::count(file.codebook_size().into()),
            text::count(MOST_ENTRIES.into())
        );
        if let Some(model) = &model {
            let comparison = Comparison::of(file.digests(), model);
            if !comparison.same_ids() {
                let why = comparison.why();
                return Err(fail(Exit::WrongModel, format!("{name}: {why}")));
            }
        }
        if let Some((first_path, first)) = files.first() {
            let first_name = first_path.display();
            let differences = first.digests().differences(file.digests());
            if let Some((part, expected, found)) = differences.first() {
                let why = format!(
                    "{name}: another tokenizer's: {part} digest: expected {} (as in {first_name}), found {}; measure its files by themselves",
                    expected.short(),
                    found.short()
                );
                return Err(fail(Exit::WrongModel, why));
            }
            ensure!(
                first.codebook_size() == file.codebook_size(),
                "{name}: {} entries, but {first_name} has {} under the same digest",
                file.codebook_size(),
                first.codebook_size()
            );
        }
        if let Some((twin, _)) = files
            .iter()
            .find(|(_, f)| !f.is_empty() && f.content() == file.content())
        {
            let twin = twin.display();
            anyhow::bail!("{name}: the same content as {twin}; name each file once");
        }
        files.push((path.clone(), file));
    }
    Ok(files)
}

impl Found {
    /// The figures, aligned, and the protocol last.
    fn lines(&self, verbose: bool) -> String {
        let mut out = String::new();
        let mut line = |key: &str, value: &str| out += &format!("{key:<18}{value}\n");
        let used = format!(
            "{:.2} % of the entries: {} by {} tokens, perplexity {:.0}",
            100.0 * self.usage.utilisation,
            text::count(self.used as u64),
            text::count(self.usage.tokens),
            self.usage.perplexity
        );
        line("used", &used);
        let once = percent(
            self.bits.seen_once,
            "of the tokens have an id that no other has",
        );
        line("seen once", &once);
        line("", "bits a token");
        for (key, bits, what) in self.rows() {
            line(key, &format!("{bits:>7.3}  {what}"));
        }
        line("protocol", &self.protocol(verbose));
        out
    }

    /// Bits a token: name, value, and what kind of figure it is.
    fn rows(&self) -> Vec<(&'static str, f64, String)> {
        let bits = &self.bits;
        let reachable = |bits: f64, place: &str| {
            let share = 1.0 - bits / f64::from(self.bits_stored);
            let saved = percent(share, "of what is stored");
            format!("reachable{place}, saves {saved}")
        };
        let mut rows = vec![
            (
                "stored",
                self.bits_stored.into(),
                "each id by itself".into(),
            ),
            ("log2 K", bits.uniform, "all entries alike".into()),
            (
                "order 0",
                bits.order0,
                "entropy of the shares, biased low".into(),
            ),
            (
                "  corrected",
                bits.order0_corrected,
                "by Miller and Madow; still low where many ids are seen once".into(),
            ),
            ("given left", bits.left.bits, low(&bits.left)),
            ("given up", bits.up.bits, low(&bits.up)),
        ];
        let mut codes = |lengths: &CodeLengths, place: &str| {
            for (key, bits) in [
                ("adaptive order 0", lengths.order0),
                ("adaptive mixed", lengths.neighbours),
            ] {
                rows.push((key, bits, reachable(bits, place)));
            }
        };
        codes(&bits.adaptive, "");
        if let Some(last) = &bits.adaptive_since_mark {
            codes(last, " in the last tenth");
        }
        rows
    }

    /// What was measured, in one line; of many files the first contents unless `all` are to be said.
    fn protocol(&self, all: bool) -> String {
        const SOME: usize = 4;
        let listed = if all { self.files.len() } else { SOME };
        let contents = self.files.iter().take(listed);
        let mut contents: Vec<&str> = contents.map(|file| file.content.as_str()).collect();
        if contents.len() < self.files.len() {
            contents.push("... (-v lists all)");
        }
        format!(
            "first views of {} in {}, content {}; {} tokens; codebook of {} entries, digest {}; adaptive codes as in {}",
            text::things(self.pictures, "picture"),
            text::things(self.files.len() as u64, "file"),
            contents.join(", "),
            text::count(self.usage.tokens),
            text::count(self.codebook_size.into()),
            self.codebook_digest,
            self.program,
        )
    }
}

fn percent(share: f64, what: &str) -> String {
    format!("{:.2} % {what}", 100.0 * share)
}

/// How low a figure is that a neighbour is given for.
fn low(given: &Conditional) -> String {
    let once = percent(
        given.pairs_seen_once,
        "of the tokens are in pairs seen once",
    );
    format!("no coder's figure, biased low: {once}")
}
