//! vqlc recover

use clap::Args;

use crate::exit::Exit;

/// vqlc recover
#[derive(Args)]
pub(crate) struct RecoverArgs {}

pub(crate) fn run(_args: RecoverArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
