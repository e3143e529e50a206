//! vqlc export

use clap::Args;

use crate::exit::Exit;

/// vqlc export
#[derive(Args)]
pub(crate) struct ExportArgs {}

pub(crate) fn run(_args: ExportArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
