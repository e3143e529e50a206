//! The embedded default model, and the choice between it and `--model FILE`. A leaf: the libraries know nothing of it.

use std::path::Path;

use anyhow::Context;
use vqlc_format::Digests;
use vqlc_model::{Tokenizer, file::ModelFile};

use crate::{
    cli::{ModelFileArgs, NetworkArgs},
    process, same_model,
};

/// The default tokenizer as a folded model file. `vqlc model fold IN assets/default.safetensors --force` replaces it.
const EMBEDDED: &[u8] = include_bytes!("../assets/default.safetensors");

/// What the embedded model is, for people.
pub(crate) const CARD: &str = include_str!("../assets/MODEL_CARD.md");

/// The tokenizer of `--model FILE`, or the embedded one, on the device asked for; and the process set up for running it.
pub(crate) fn load(model: &ModelFileArgs, network: &NetworkArgs) -> anyhow::Result<Tokenizer> {
    build(&read(model.model.as_deref())?, model, network)
}

/// The same of the model file, which was read.
pub(crate) fn build(
    file: &ModelFile,
    model: &ModelFileArgs,
    network: &NetworkArgs,
) -> anyhow::Result<Tokenizer> {
    process::keep_freed_memory();
    let device = network.device().open()?;
    // Before the model is built: it is not to blame.
    network.precision.check(&device)?;
    let tokenizer = Tokenizer::with_precision(file, &device, network.precision);
    tokenizer.with_context(|| name(model.model.as_deref()))
}

/// A model file, or the embedded one.
pub(crate) fn read(path: Option<&Path>) -> anyhow::Result<ModelFile> {
    match path {
        Some(path) => ModelFile::read(path),
        None => ModelFile::from_bytes(EMBEDDED),
    }
    .with_context(|| name(path))
}

/// The digests of a model, as token files record them; no network is built.
pub(crate) fn digests(path: Option<&Path>) -> anyhow::Result<Digests> {
    Ok(same_model::recorded(read(path)?.digests()))
}

fn name(path: Option<&Path>) -> String {
    path.map_or_else(
        || "the embedded model".into(),
        |path| format!("model {}", path.display()),
    )
}
