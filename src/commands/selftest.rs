//! vqlc selftest

use clap::Args;

use crate::exit::Exit;

/// vqlc selftest
#[derive(Args)]
pub(crate) struct SelftestArgs {}

pub(crate) fn run(_args: SelftestArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
