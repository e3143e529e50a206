//! vqlc validate

use clap::Args;

use crate::exit::Exit;

/// vqlc validate
#[derive(Args)]
pub(crate) struct ValidateArgs {}

pub(crate) fn run(_args: ValidateArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("not written yet")
}
