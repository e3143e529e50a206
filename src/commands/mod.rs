//! One file a command. A command returns its exit code, or an error that `exit` turns into one.

pub(crate) mod ablate;
pub(crate) mod bench;
pub(crate) mod codebook;
pub(crate) mod completions;
pub(crate) mod compress;
pub(crate) mod decompress;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod info;
pub(crate) mod merge;
pub(crate) mod model;
pub(crate) mod recover;
pub(crate) mod report;
pub(crate) mod sample;
pub(crate) mod selftest;
pub(crate) mod split;
pub(crate) mod train;
pub(crate) mod validate;

use crate::{cli::Command, exit::Exit};

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Compress(args) => compress::run(args),
        Command::Decompress(args) => decompress::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Info(args) => info::run(args),
        Command::Recover(args) => recover::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Split(args) => split::run(args),
        Command::Export(args) => export::run(args),
        Command::Model(args) => model::run(args),
        Command::Codebook(args) => codebook::run(*args),
        Command::Bench(args) => bench::run(args),
        Command::Selftest(args) => selftest::run(args),
        Command::Train(args) => train::run(args),
        Command::Ablate(args) => ablate::run(&args),
        Command::Sample(args) => sample::run(args),
        Command::Report(args) => report::run(&args),
        Command::Eval(args) => eval::run(args),
        Command::Completions(args) => completions::run(args),
    }
}
