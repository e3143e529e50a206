//! vqlc info

use clap::Args;

use crate::exit::Exit;

/// vqlc info
#[derive(Args)]
pub(crate) struct InfoArgs {}

pub(crate) fn run(_args: InfoArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
