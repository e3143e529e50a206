//! From arguments to a configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;

use crate::cli::{DeviceArgs, OutputArgs, ThreadArgs};

/// What every run is told beside its configuration's name.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// The configuration, a TOML file
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub(super) config: Option<PathBuf>,
    /// Print a preset's configuration, with comments, and end
    #[arg(long, value_name = "NAME", exclusive = true)]
    pub(super) print_config: Option<String>,
    /// The run's folder
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    out: Option<PathBuf>,
    /// Go on with the run in that folder, from its newest checkpoint
    #[arg(long)]
    pub(super) resume: bool,
    /// Change one value of the configuration, such as run.steps=1000
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    #[command(flatten)]
    pub(super) threads: ThreadArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl RunArgs {
    /// The run's folder.
    pub(super) fn out(&self) -> anyhow::Result<&Path> {
        let out = self.out.as_deref();
        out.context("--out DIR is missing: the run's folder")
    }
}

/// Values of a configuration that arguments set: `key=value`, as `--set` takes them.
#[derive(Default)]
pub(crate) struct Assignments(Vec<String>);

impl Assignments {
    /// Sets a path, if one is given.
    pub(crate) fn path(&mut self, key: &str, path: Option<&Path>) -> anyhow::Result<()> {
        if let Some(path) = path {
            self.0.push(format!("{key}={}", quoted(path)?));
        }
        Ok(())
    }

    /// Sets a list of paths, if there are any.
    pub(super) fn paths(&mut self, key: &str, paths: &[PathBuf]) -> anyhow::Result<()> {
        if !paths.is_empty() {
            let paths = paths.iter().map(|path| quoted(path));
            let paths = paths.collect::<anyhow::Result<Vec<_>>>()?;
            self.0.push(format!("{key}=[{}]", paths.join(", ")));
        }
        Ok(())
    }

    /// All of them, and behind them those of `--set`.
    pub(crate) fn and(mut self, set: &[String]) -> Vec<String> {
        self.0.extend_from_slice(set);
        self.0
    }
}

/// The configuration of the run that goes on, `stored`; one that was told besides must be the same.
pub(super) fn going_on<C: PartialEq>(told: Option<C>, stored: C, out: &Path) -> anyhow::Result<C> {
    ensure!(
        told.is_none_or(|told| told == stored),
        "the configuration is not that of the run in {}; leave out --config and --preset, and change single values with --set",
        out.display()
    );
    Ok(stored)
}

/// A path as TOML text.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8: rename it", path.display()))?;
    Ok(toml::Value::String(text.into()).to_string())
}
