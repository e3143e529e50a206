//! `vqlc model`: what is in a model file, making one from published weights, and making it small.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde::Serialize;
use vqlc_model::{
    VqganConfig,
    convert::{ImportOptions, import},
    file::ModelFile,
};

use crate::{
    cli::{ForceArgs, OutputArgs},
    default_model,
    exit::Exit,
    outputs::may_write,
    report::Reporter,
    same_model, text,
};

/// `vqlc model ...`
#[derive(Args)]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    /// Say what a model file holds
    Info(ModelInfoArgs),
    /// Make a model file from published weights: .safetensors, or a PyTorch checkpoint
    Convert(ConvertArgs),
    /// Drop the static codebook, which only training needs: ids and pictures stay the same
    Fold(FoldArgs),
}

/// `vqlc model info [FILE]`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  vqlc model info\n  vqlc model info --json tokenizer.safetensors"
)]
struct ModelInfoArgs {
    /// A model file [default: the model embedded in this program, with its card]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    out: OutputArgs,
}

const CONVERT_EXAMPLES: &str = "\
A checkpoint is read without running any code in it. The configuration is read from the file's \
metadata or off the tensors' shapes; `--preset` states it instead. The projected codebook is \
computed once, here, and the digests that token files name the model by are taken.

Examples:
  vqlc model convert vqgan-lc-100k-f16.pth tokenizer.safetensors
  vqlc model convert --half weights.safetensors tokenizer.safetensors";

/// `vqlc model convert IN OUT`
#[derive(Args)]
#[command(after_help = CONVERT_EXAMPLES)]
struct ConvertArgs {
    /// Published weights
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The model file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Round the weights to 16 bits, which halves the file; a model rounded so has ids of its own
    #[arg(long)]
    half: bool,
    /// The network's configuration, if the file does not tell
    #[arg(long, value_name = "NAME", value_parser = VqganConfig::PRESETS)]
    preset: Option<String>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    out: OutputArgs,
}

/// `vqlc model fold IN OUT`
#[derive(Args)]
#[command(after_help = "Example:\n  vqlc model fold tokenizer.safetensors small.safetensors")]
struct FoldArgs {
    /// A model file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The model file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    out: OutputArgs,
}

pub(crate) fn run(args: ModelArgs) -> anyhow::Result<Exit> {
    match args.command {
        ModelCommand::Info(args) => info(&args),
        ModelCommand::Convert(args) => convert(&args),
        ModelCommand::Fold(args) => fold(&args),
    }
}

#[derive(Serialize)]
struct Info<'a> {
    file: String,
    bytes: Option<u64>,
    config: &'a VqganConfig,
    factor: usize,
    network_parameters: usize,
    folded: bool,
    provenance: &'a str,
    digests: same_model::Shown,
    /// The embedded model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<&'static str>,
}

impl<'a> Info<'a> {
    fn new(path: Option<&Path>, model: &'a ModelFile) -> Self {
        Self {
            file: path.map_or_else(
                || "embedded in this program".into(),
                |path| path.display().to_string(),
            ),
            bytes: path
                .and_then(|path| path.metadata().ok())
                .map(|meta| meta.len()),
            config: model.config(),
            factor: model.config().factor(),
            network_parameters: model.network_parameters(),
            folded: model.is_folded(),
            provenance: model.provenance(),
            digests: same_model::Shown::new(&same_model::recorded(model.digests())),
            card: path.is_none().then_some(default_model::CARD),
        }
    }

    fn print(&self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let mut line = |key: &str, value: &str| writeln!(out, "{key:<14} {value}");
        let size = self
            .bytes
            .map_or_else(String::new, |bytes| format!(" ({})", text::bytes(bytes)));
        line("file", &format!("{}{size}", self.file))?;
        let config = self.config;
        line(
            "factor",
            &format!("{} pixels a side for a token", self.factor),
        )?;
        line(
            "network",
            &format!(
                "{:.2} M parameters, ch {}, ch_mult {:?}",
                self.network_parameters as f64 / 1e6,
                config.ch,
                config.ch_mult
            ),
        )?;
        line(
            "entries",
            &format!(
                "{} in the codebook, of {} numbers, projected from {}",
                text::count(config.n_codes as u64),
                config.embed_dim,
                config.code_dim
            ),
        )?;
        line(
            "static table",
            if self.folded {
                "dropped (folded)"
            } else {
                "kept"
            },
        )?;
        line("provenance", self.provenance)?;
        for (key, digest) in ["digests", "", "", ""].iter().zip(self.digests.lines()) {
            line(key, &digest)?;
        }
        if let Some(card) = self.card {
            write!(out, "\n{card}")?;
        }
        Ok(())
    }
}

fn info(args: &ModelInfoArgs) -> anyhow::Result<Exit> {
    let model = default_model::read(args.file.as_deref())?;
    let info = Info::new(args.file.as_deref(), &model);
    if args.out.json {
        text::print_json(&info)?
    } else {
        info.print()?
    }
    Ok(Exit::Ok)
}

fn convert(args: &ConvertArgs) -> anyhow::Result<Exit> {
    may_write(&args.output, args.force.force)?;
    let options = ImportOptions {
        config: args
            .preset
            .as_deref()
            .map(VqganConfig::preset)
            .transpose()?,
        half: args.half,
        provenance: format!(
            "converted from {} by vqlc {}{}",
            args.input.file_name().unwrap_or_default().to_string_lossy(),
            env!("CARGO_PKG_VERSION"),
            if args.half { ", rounded to f16" } else { "" }
        ),
    };
    let imported = import(&args.input, &options)
        .map_err(|err| match ModelFile::read(&args.input) {
            Ok(_) => anyhow!("this is a vqlc model file already"),
            Err(_) => err.into(),
        })
        .with_context(|| args.input.display().to_string())?;
    if !imported.left_out.is_empty() {
        let reporter = Reporter::new(&args.out);
        reporter.note(&format!(
            "left out {} that only training needs",
            text::things(imported.left_out.len() as u64, "tensor")
        ));
        for name in &imported.left_out {
            reporter.detail(&format!("left out {name}"));
        }
    }
    write(&imported.model, &args.output, &args.out)
}

fn fold(args: &FoldArgs) -> anyhow::Result<Exit> {
    may_write(&args.output, args.force.force)?;
    write(
        &default_model::read(Some(&args.input))?.fold(),
        &args.output,
        &args.out,
    )
}

fn write(model: &ModelFile, output: &Path, out: &OutputArgs) -> anyhow::Result<Exit> {
    model.write(output)?;
    if out.json {
        text::print_json(&Info::new(Some(output), model))?;
    } else {
        let bytes = output.metadata().map_or(0, |meta| meta.len());
        Reporter::new(out).note(&format!("{}: {}", output.display(), text::bytes(bytes)));
    }
    Ok(Exit::Ok)
}
