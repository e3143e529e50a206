//! vqlc bench

use clap::Args;

use crate::exit::Exit;

/// vqlc bench
#[derive(Args)]
pub(crate) struct BenchArgs {}

pub(crate) fn run(_args: BenchArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
