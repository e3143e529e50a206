//! vqlc decompress

use clap::Args;

use crate::exit::Exit;

/// vqlc decompress
#[derive(Args)]
pub(crate) struct DecompressArgs {}

pub(crate) fn run(_args: DecompressArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
