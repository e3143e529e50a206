//! vqlc merge

use clap::Args;

use crate::exit::Exit;

/// vqlc merge
#[derive(Args)]
pub(crate) struct MergeArgs {}

pub(crate) fn run(_args: MergeArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
