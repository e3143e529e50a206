//! vqlc model

use clap::Args;

use crate::exit::Exit;

/// vqlc model
#[derive(Args)]
pub(crate) struct ModelArgs {}

pub(crate) fn run(_args: ModelArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
