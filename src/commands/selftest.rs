//! `vqlc selftest`: every fast operation against its plain version on this machine, and reference tensors if given.

mod kernels;
mod network;
mod storage;

use std::{io::Write, path::PathBuf, time::Instant};

use clap::Args;
use serde::Serialize;
use vqlc_model::Precision;
use vqlc_model::reference::Comparison;

use crate::{
    cli::{DeviceArgs, ModelFileArgs, OutputArgs, ThreadArgs},
    default_model,
    exit::Exit,
    text,
};

const EXAMPLES: &str = "\
What to run when results look odd, and on a machine that is new to you. Nothing but this program \
is needed. A reference folder holds vqgan.safetensors and tolerances.json, made by another \
implementation.

Examples:
  vqlc selftest
  vqlc selftest --device cuda --reference reference/";

/// `vqlc selftest`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SelftestArgs {
    #[command(flatten)]
    model: ModelFileArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Also compare with the tensors of another implementation in this folder
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    out: OutputArgs,
}

/// How a check ended, and what it compared or what differs.
struct Outcome {
    ok: bool,
    detail: String,
}

impl Outcome {
    fn ok(detail: impl Into<String>) -> Self {
        Self {
            ok: true,
            detail: detail.into(),
        }
    }

    fn failed(detail: impl Into<String>) -> Self {
        Self {
            ok: false,
            detail: detail.into(),
        }
    }

    /// An error where a check needed a result is a failed check.
    fn of(result: anyhow::Result<Self>) -> Self {
        result.unwrap_or_else(|err| Self::failed(format!("{err:#}")))
    }
}

#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
    detail: String,
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    version: &'static str,
    device: String,
    threads: usize,
    checks: Vec<Check>,
}

impl Report {
    fn check(
        &mut self,
        out: &OutputArgs,
        name: &str,
        run: impl FnOnce() -> Outcome,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        let Outcome { ok, detail } = run();
        let seconds = start.elapsed().as_secs_f64();
        let silent = out.json || (out.quiet && ok);
        if !silent {
            let word = if ok { "ok    " } else { "FAILED" };
            writeln!(
                std::io::stdout(),
                "{word} {name}: {detail} ({seconds:.1} s)"
            )?;
        }
        self.ok &= ok;
        self.checks.push(Check {
            name: name.into(),
            ok,
            detail,
            seconds,
        });
        Ok(())
    }

    fn comparison(
        &mut self,
        out: &OutputArgs,
        kind: &str,
        comparison: &Comparison,
    ) -> anyhow::Result<()> {
        let Comparison { key, error, limit } = comparison;
        let outcome = Outcome {
            ok: comparison.passed(),
            detail: format!("error {error:.2e}, limit {limit:.2e}"),
        };
        self.check(out, &format!("{kind} {key}"), || outcome)
    }
}

pub(crate) fn run(args: SelftestArgs) -> anyhow::Result<Exit> {
    let threads = args.threads.apply()?;
    let out = &args.out;
    let mut report = Report {
        ok: true,
        version: env!("CARGO_PKG_VERSION"),
        device: args.device.device.to_string(),
        threads,
        checks: Vec::new(),
    };
    report.check(out, "bit packing, fast against plain", kernels::packing)?;
    report.check(out, "nearest entry, fast against plain", kernels::nearest)?;
    report.check(out, "convolution, fast against plain", kernels::convolution)?;
    report.check(out, "attention, fast against plain", kernels::attention)?;
    report.check(
        out,
        "token file, written, read and damaged",
        storage::round_trip,
    )?;

    // A model or a device that cannot be used is an error of the command, not an odd result.
    let model = default_model::read(args.model.model.as_deref())?;
    let device = args.device.device.open()?;
    let pictures = network::Pictures::new(model.config().factor());
    report.check(out, "ids, any batch and any number of threads", || {
        network::independence(&model, &pictures)
    })?;
    if args.device.device != vqlc_model::DeviceSpec::Cpu {
        for precision in [Precision::F32, Precision::Bf16] {
            let name = format!(
                "network on {} in {precision} against the CPU",
                args.device.device
            );
            report.check(out, &name, || {
                network::devices(&model, args.device.device, precision, &pictures)
            })?;
        }
        for comparison in vqlc_model::devices::operations::compare(&device)? {
            report.comparison(out, "operation", &comparison)?;
        }
    }
    if let Some(folder) = &args.reference {
        for comparison in vqlc_model::reference::compare_vqgan(folder, &device)? {
            report.comparison(out, "reference", &comparison)?;
        }
        for (file, compare) in vqlc_train::reference::CASES {
            if folder.join(file).exists() {
                report.check(out, &format!("reference {file}, training"), || {
                    network::training(compare(folder, &device))
                })?;
            }
        }
    }

    let failed = report.checks.iter().filter(|check| !check.ok).count();
    if out.json {
        text::print_json(&report)?;
    } else if !out.quiet || failed > 0 {
        let line = format!("{} passed, {failed} failed", report.checks.len() - failed);
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(if report.ok { Exit::Ok } else { Exit::Error })
}
