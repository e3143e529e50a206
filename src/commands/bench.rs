//! `vqlc bench`: how fast this machine is, in about half a minute.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use vqlc_format::{
    CheckOptions, Digest, Digests, Grid, Picture, Spec, TokenFile, Writer, order::Permutation, pack,
};
use vqlc_model::{Tokenizer, VqganConfig, rng::Rng};
use vqlc_ops::NearestIndex;

use crate::{
    cli::{DeviceArgs, ModelFileArgs, OutputArgs, ThreadArgs},
    default_model,
    exit::Exit,
    report::Reporter,
    text,
};

const EXAMPLES: &str = "\
encode, decode   the network on random pictures, pictures/s
nearest          exact nearest of 100,000 entries of 8 numbers (standard normal), queries/s
unpack           17-bit ids from memory to 32-bit numbers in order, one thread, ids/s
gather           records of 256 ids in random order out of a token file in memory, one thread, records/s
validate         the full check of that file, bytes/s

Each is run again and again for a few seconds; best and median are said.

Examples:
  vqlc bench
  vqlc bench --only encode,decode --ch 128 --batch 1
  vqlc bench --device cuda --batch 64 --json";

/// `vqlc bench`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    model: ModelFileArgs,
    /// Use a network of the paper's f16 shape with random weights, N channels wide (the paper: 128)
    #[arg(long, value_name = "N", conflicts_with = "model")]
    ch: Option<usize>,
    /// Side of the pictures in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=8192))]
    size: u32,
    /// Pictures in a batch [default: 4, on a GPU 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: Option<u16>,
    /// Measure these only
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// Time for each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, value_parser = parse_seconds)]
    seconds: f64,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    out: OutputArgs,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds from 0 to 3600".into()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Encode,
    Decode,
    Nearest,
    Unpack,
    Gather,
    Validate,
}

/// One line of the result. `best` and `median` are `unit`s a second.
#[derive(Serialize)]
struct Measured {
    what: What,
    unit: &'static str,
    best: f64,
    median: f64,
    runs: usize,
    detail: String,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    device: String,
    threads: usize,
    results: Vec<Measured>,
}

pub(crate) fn run(args: BenchArgs) -> anyhow::Result<Exit> {
    let threads = args.threads.apply()?;
    let reporter = Reporter::new(&args.out);
    let budget = Duration::from_secs_f64(args.seconds);
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        device: args.device.device.to_string(),
        threads,
        results: Vec::new(),
    };
    let wanted = |what: What| args.only.is_empty() || args.only.contains(&what);
    let mut say = |measured: Measured| -> anyhow::Result<()> {
        if !args.out.json {
            print_line(&measured)?;
        }
        report.results.push(measured);
        Ok(())
    };

    if wanted(What::Encode) || wanted(What::Decode) {
        let network = Network::open(&args)?;
        if wanted(What::Encode) {
            say(network.encode(budget)?)?;
        }
        if wanted(What::Decode) {
            say(network.decode(budget)?)?;
        }
    }
    if wanted(What::Nearest) {
        say(nearest(budget)?)?;
    }
    if wanted(What::Unpack) {
        say(unpack(budget)?)?;
    }
    if wanted(What::Gather) || wanted(What::Validate) {
        reporter.detail("writing a token file to measure on");
        let file = token_file()?;
        if wanted(What::Gather) {
            say(gather(&file, budget)?)?;
        }
        if wanted(What::Validate) {
            say(validate(&file, threads, budget)?)?;
        }
    }
    if args.out.json {
        text::print_json(&report)?;
    }
    Ok(Exit::Ok)
}

fn print_line(m: &Measured) -> anyhow::Result<()> {
    use std::io::Write;
    let name = format!("{:?}", m.what).to_lowercase();
    let per_second = format!("{}/s", m.unit);
    writeln!(
        std::io::stdout(),
        "{name:<9} {:>16} {per_second:<11} (median {}, {}; {})",
        rate(m.best),
        rate(m.median),
        text::things(m.runs as u64, "run"),
        m.detail
    )?;
    Ok(())
}

/// Three significant digits where they matter, separated thousands where they do not.
fn rate(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 1000.0 => format!("{v:.1}"),
        v => text::count(v.round() as u64),
    }
}

/// Runs `work` once to warm up, then again and again for `budget`, at least three times unless that takes too long.
/// `amount` is what one run does; the unit is what `amount` counts.
fn measure(
    what: What,
    unit: &'static str,
    detail: String,
    amount: f64,
    budget: Duration,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Measured> {
    const LEAST_RUNS: usize = 3;
    let mut timed = || -> anyhow::Result<f64> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let begin = Instant::now();
    let warm_up = timed()?;
    let mut seconds = Vec::new();
    while begin.elapsed() < budget || seconds.len() < LEAST_RUNS && begin.elapsed() < 3 * budget {
        seconds.push(timed()?);
    }
    if seconds.is_empty() {
        // One run alone took more than all the time there is.
        seconds.push(warm_up);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Measured {
        what,
        unit,
        best: amount / seconds[0],
        median: amount / seconds[seconds.len() / 2],
        runs: seconds.len(),
        detail,
    })
}

/// The network under test and its batch.
struct Network {
    tokenizer: Tokenizer,
    name: String,
    side: usize,
    batch: usize,
}

impl Network {
    fn open(args: &BenchArgs) -> anyhow::Result<Self> {
        let (tokenizer, name) = match args.ch {
            Some(ch) => (
                Tokenizer::random(&VqganConfig::paper_with_width(ch)?, 1, args.device.device)?,
                format!("random weights, ch {ch}"),
            ),
            None => {
                let name = if args.model.model.is_some() {
                    "the model given"
                } else {
                    "the embedded model"
                };
                (
                    default_model::load(&args.model, &args.device)?,
                    name.to_owned(),
                )
            }
        };
        let (side, factor) = (args.size as usize, tokenizer.factor());
        ensure!(
            side.is_multiple_of(factor),
            "--size {side} is not a multiple of this model's factor, {factor}"
        );
        let default_batch = if matches!(args.device.device, vqlc_model::DeviceSpec::Cpu) {
            4
        } else {
            64
        };
        Ok(Self {
            tokenizer,
            name,
            side,
            batch: args.batch.map_or(default_batch, usize::from),
        })
    }

    fn detail(&self) -> String {
        format!(
            "{}, {}x{} pixels, batch {}",
            self.name, self.side, self.side, self.batch
        )
    }

    fn encode(&self, budget: Duration) -> anyhow::Result<Measured> {
        let mut rng = Rng::new(2);
        let pixels: Vec<f32> = (0..self.batch * 3 * self.side * self.side)
            .map(|_| (2.0 * rng.uniform() - 1.0) as f32)
            .collect();
        measure(
            What::Encode,
            "pictures",
            self.detail(),
            self.batch as f64,
            budget,
            || {
                black_box(
                    self.tokenizer
                        .encode(&pixels, self.batch, self.side, self.side)?,
                );
                Ok(())
            },
        )
    }

    fn decode(&self, budget: Duration) -> anyhow::Result<Measured> {
        let grid = self.side / self.tokenizer.factor();
        let ids = random_ids(3, self.batch * grid * grid, self.tokenizer.codebook_size());
        measure(
            What::Decode,
            "pictures",
            self.detail(),
            self.batch as f64,
            budget,
            || {
                black_box(self.tokenizer.decode(&ids, self.batch, grid, grid)?);
                Ok(())
            },
        )
    }
}

const CODEBOOK_SIZE: u32 = 100_000;
const DIM: usize = 8;
const BITS: u32 = 17;
const GRID: u32 = 16;
const RECORD: usize = (GRID * GRID) as usize;
/// 71 MB of ids: well past the caches.
const RECORDS: u64 = 1 << 17;

fn random_ids(seed: u64, count: usize, below: u32) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..count)
        .map(|_| (rng.next_u64() % u64::from(below)) as u32)
        .collect()
}

fn nearest(budget: Duration) -> anyhow::Result<Measured> {
    const QUERIES: usize = 1 << 16;
    let mut rng = Rng::new(4);
    let mut normal =
        |count: usize| -> Vec<f32> { (0..count).map(|_| rng.normal() as f32).collect() };
    let table = normal(CODEBOOK_SIZE as usize * DIM);
    let queries = normal(QUERIES * DIM);
    let start = Instant::now();
    let index = NearestIndex::build(&table, DIM)?;
    let detail = format!(
        "100,000 x 8, index built in {:.0} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    let mut ids = vec![0; QUERIES];
    measure(
        What::Nearest,
        "queries",
        detail,
        QUERIES as f64,
        budget,
        || {
            index.search(&queries, &mut ids)?;
            black_box(&ids);
            Ok(())
        },
    )
}

fn unpack(budget: Duration) -> anyhow::Result<Measured> {
    let mut ids = random_ids(5, RECORDS as usize * RECORD, CODEBOOK_SIZE);
    let mut packed = vec![0; ids.len() * BITS as usize / 8];
    pack::pack(&ids, BITS, &mut packed);
    measure(
        What::Unpack,
        "ids",
        "17 bits, in order, one thread".into(),
        ids.len() as f64,
        budget,
        || {
            pack::unpack(&packed, BITS, &mut ids);
            black_box(&ids);
            Ok(())
        },
    )
}

/// A token file in memory, written as `compress` writes it.
fn token_file() -> anyhow::Result<TokenFile<Vec<u8>>> {
    let folder =
        tempfile::tempdir().context("a temporary folder for the token file to measure on")?;
    let path = folder.path().join("bench.vqt");
    let spec = Spec {
        codebook_size: CODEBOOK_SIZE,
        grid: Grid::Fixed {
            rows: GRID,
            cols: GRID,
        },
        views: vec!["center".into()],
        records_per_block: None,
        digests: Digests::default(),
        preprocessing: Vec::new(),
        classes: None,
        names: false,
        sizes: false,
    };
    let mut writer = Writer::create(&path, &spec, Digest::default(), false)?;
    let ids = random_ids(6, 64 * RECORD, CODEBOOK_SIZE);
    for (position, ids) in (0..RECORDS).zip(ids.chunks_exact(RECORD).cycle()) {
        writer.push(
            position,
            &Picture {
                name: b"",
                label: None,
                width: 0,
                height: 0,
                rows: GRID,
                cols: GRID,
                ids,
            },
        )?;
    }
    writer.finish(RECORDS)?;
    Ok(TokenFile::read(&path)?)
}

fn gather(file: &TokenFile<Vec<u8>>, budget: Duration) -> anyhow::Result<Measured> {
    const BATCH: usize = 1024;
    let order = Permutation::new(RECORDS, 7);
    let shuffled: Vec<u64> = (0..RECORDS).map(|position| order.at(position)).collect();
    let mut ids = vec![0; BATCH * RECORD];
    let detail = "256 ids of 17 bits each, random order, batches of 1,024, one thread".into();
    measure(
        What::Gather,
        "records",
        detail,
        RECORDS as f64,
        budget,
        || {
            for records in shuffled.chunks_exact(BATCH) {
                file.gather(records, &mut ids)?;
                black_box(&ids);
            }
            Ok(())
        },
    )
}

fn validate(
    file: &TokenFile<Vec<u8>>,
    threads: usize,
    budget: Duration,
) -> anyhow::Result<Measured> {
    let options = CheckOptions {
        sample: None,
        seed: 0,
        threads,
    };
    let bytes = file.check(&options).bytes_checked;
    measure(
        What::Validate,
        "bytes",
        format!("{}, in memory", text::bytes(bytes)),
        bytes as f64,
        budget,
        || {
            ensure!(
                black_box(file.check(&options)).problems.is_empty(),
                "the file just written does not validate"
            );
            Ok(())
        },
    )
}
