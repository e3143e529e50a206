//! vqlc compress

use clap::Args;

use crate::exit::Exit;

/// vqlc compress
#[derive(Args)]
pub(crate) struct CompressArgs {}

pub(crate) fn run(_args: CompressArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
