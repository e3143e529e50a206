//! `vqlc bench`: how fast this machine is, in about half a minute.

mod kernels;
mod network;
mod sampling;
mod storage;
mod training;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use serde::Serialize;
use vqlc_model::{DeviceSpec, rng::Rng};

use crate::{
    cli::{ModelFileArgs, NetworkArgs, OutputArgs, ThreadArgs},
    exit::Exit,
    report::Reporter,
    text,
};
use network::Network;

const EXAMPLES: &str = "\
encode, decode   the network on random pictures, pictures/s; on a GPU from and to its memory
nearest          exact nearest of 100,000 (--codes) entries of 8 numbers (standard normal), queries/s
unpack           17-bit ids from memory to 32-bit numbers in order, one thread, ids/s
gather           records of 256 ids in random order out of a file in memory, one thread, records/s
loader           the same as training takes them: shuffled batches out of a mapped file, records/s
validate         the full check of that file, bytes/s
assign           the nearest of many centres as K-means searches it, points/s
train            steps of training with LPIPS and adversary (paper section 4.1, random weights), pictures/s;
                 left out unless asked for: on a processor a step of the paper's network takes minutes
sample           ids drawn by a small gpt over 100,000 (--codes) codes, what was looked at kept, tokens/s; if asked for
resample         the same, all of it computed again for each token; if asked for

Each is run again and again for a few seconds; best and median are said.

Examples:
  vqlc bench
  vqlc bench --only encode,decode --ch 128 --batch 1
  vqlc bench --device cuda --batch 64 --json
  vqlc bench --only train --ch 16 --batch 4
  vqlc bench --only train --device cuda --precision bf16 --ch 128 --batch 64";

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
    /// Entries of the codebook that is searched, or trained with
    #[arg(long, value_name = "N", default_value_t = CODEBOOK_SIZE, value_parser = clap::value_parser!(u32).range(2..=1 << 24))]
    codes: u32,
    /// Measure these only
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// Time for each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, value_parser = parse_seconds)]
    seconds: f64,
    #[command(flatten)]
    network: NetworkArgs,
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
    Loader,
    Validate,
    Assign,
    Train,
    Sample,
    Resample,
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

/// The paper's codebook, and a record of 256 ids of 17 bits.
const CODEBOOK_SIZE: u32 = 100_000;
const BITS: u32 = 17;
const GRID: u32 = 16;
const RECORD: usize = (GRID * GRID) as usize;
/// 71 MB of ids: well past the caches.
const RECORDS: u64 = 1 << 17;

pub(crate) fn run(args: BenchArgs) -> anyhow::Result<Exit> {
    let threads = args.threads.apply()?;
    let reporter = Reporter::new(&args.out);
    let budget = Duration::from_secs_f64(args.seconds);
    let on_cpu = args.network.device() == DeviceSpec::Cpu;
    if on_cpu {
        // Whatever is measured: nobody should take a figure for another precision's.
        (args.network.precision).check(&args.network.device().open()?)?;
    }
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        device: args.network.device().to_string(),
        threads,
        results: Vec::new(),
    };
    // On a GPU the assignment is one of gigabytes: for those who ask.
    let asked = |what: What| match what {
        What::Train | What::Sample | What::Resample => true,
        What::Assign => !on_cpu,
        _ => false,
    };
    let wanted = |what: What| args.only.contains(&what) || args.only.is_empty() && !asked(what);
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
        say(kernels::nearest(
            budget,
            args.network.device(),
            args.codes as usize,
        )?)?;
    }
    if wanted(What::Unpack) {
        say(kernels::unpack(budget)?)?;
    }
    if wanted(What::Gather) || wanted(What::Loader) || wanted(What::Validate) {
        reporter.detail("writing a token file to measure on");
        let written = storage::Written::new()?;
        let file = written.read()?;
        if wanted(What::Gather) {
            say(storage::gather(&file, budget)?)?;
        }
        if wanted(What::Loader) {
            say(storage::loader(&written, threads, budget)?)?;
        }
        if wanted(What::Validate) {
            say(storage::validate(&file, threads, budget)?)?;
        }
    }
    if wanted(What::Assign) {
        say(kernels::assign(budget, args.network.device())?)?;
    }
    if wanted(What::Train) {
        let measured = training::steps(&args, budget);
        if crate::interrupt::requested() {
            return Ok(Exit::Interrupted);
        }
        say(measured?)?;
    }
    if wanted(What::Sample) || wanted(What::Resample) {
        let sampling = sampling::Sampling::new(&args)?;
        for what in [What::Sample, What::Resample] {
            if wanted(what) {
                say(sampling.draw(what, budget)?)?;
            }
        }
    }
    if args.out.json {
        text::print_json(&report)?;
    }
    Ok(Exit::Ok)
}

fn print_line(m: &Measured) -> anyhow::Result<()> {
    let name = format!("{:?}", m.what).to_lowercase();
    // Bytes are read most easily in thousands of millions.
    let (unit, scale) = match m.unit {
        "bytes" => ("GB", 1e-9),
        unit => (unit, 1.0),
    };
    let per_second = format!("{unit}/s");
    writeln!(
        std::io::stdout(),
        "{name:<9} {:>16} {per_second:<11} (median {}, {}; {})",
        rate(scale * m.best),
        rate(scale * m.median),
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

fn random_ids(seed: u64, count: usize, below: u32) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..count)
        .map(|_| (rng.next_u64() % u64::from(below)) as u32)
        .collect()
}
