//! vqlc split

use clap::Args;

use crate::exit::Exit;

/// vqlc split
#[derive(Args)]
pub(crate) struct SplitArgs {}

pub(crate) fn run(_args: SplitArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
