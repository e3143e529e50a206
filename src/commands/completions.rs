//! `vqlc completions`: a completion script on stdout, made from the grammar in `cli`.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{cli::Cli, exit::Exit};

const EXAMPLES: &str = "\
Examples:
  vqlc completions bash > ~/.local/share/bash-completion/completions/vqlc
  vqlc completions zsh > ~/.zfunc/_vqlc";

/// `vqlc completions SHELL`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell the script is for
    shell: Shell,
}

pub(crate) fn run(args: CompletionsArgs) -> anyhow::Result<Exit> {
    // clap_complete panics when its writer fails, so it writes to memory and a broken pipe stays an ordinary error.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vqlc", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Ok)
}
