//! The embedded default model, and the choice between it and `--model FILE`. A leaf: the libraries know nothing of it.

use anyhow::Context;
use vqlc_model::Tokenizer;

use crate::cli::{DeviceArgs, ModelFileArgs};

/// The default tokenizer as a folded model file. `vqlc model fold IN assets/default.safetensors` replaces it.
pub(crate) const EMBEDDED: &[u8] = include_bytes!("../assets/default.safetensors");

/// The tokenizer of `--model FILE`, or the embedded one, on the device asked for.
pub(crate) fn load(model: &ModelFileArgs, device: &DeviceArgs) -> anyhow::Result<Tokenizer> {
    match &model.model {
        Some(path) => Tokenizer::from_file(path, &device.device)
            .with_context(|| format!("model {}", path.display())),
        None => Tokenizer::from_bytes(EMBEDDED, &device.device).context("the embedded model"),
    }
}
