//! `vqlc`: pictures to token files and back. This file is the outline; each command has a file of its own in `commands/`.
// Talking to people is this crate's job (the libraries may not).
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod codecs;
mod commands;
mod default_model;
mod exit;
mod globs;
mod interrupt;
mod judges;
mod memory;
mod names;
mod outputs;
mod pipeline;
mod process;
mod rate;
mod report;
mod safe_path;
mod same_model;
mod text;
mod walk;

use clap::Parser;

#[allow(unsafe_code)]
fn main() -> std::process::ExitCode {
    // SAFETY: nothing before this started a thread.
    unsafe { process::start() };
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => return exit::from_clap(&err),
    };
    match commands::run(cli.command) {
        Ok(code) => code.into(),
        Err(err) => exit::report(&err).into(),
    }
}
