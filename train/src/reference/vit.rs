//! The vision transformer on pictures and on latents: `vit.safetensors`.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::loss::cross_entropy;
use vqlc_model::reference::{Comparison, ReferenceFile};

use crate::{
    Error, Params, Result,
    optim::Grads,
    vit::{Vit, VitConfig},
};

const FILE: &str = "vit.safetensors";

/// Runs the two networks of the reference in `folder` on `device` and compares tokens, logits, losses and gradients.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_vit(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let number = |key: &str| {
        let value = stored.config().get(key).and_then(|v| v.as_u64());
        value
            .map(|n| n as usize)
            .ok_or_else(|| Error::malformed(&folder.join(FILE), format!("no {key}")))
    };
    let pictures = VitConfig {
        channels: 3,
        rows: number("image")?,
        cols: number("image")?,
        patch: number("patch")?,
        classes: number("classes")?,
        width: number("dim")?,
        layers: number("depth")?,
        heads: number("heads")?,
    };
    let latents = VitConfig {
        channels: number("code_dim")?,
        rows: number("grid")?,
        cols: number("grid")?,
        patch: 1,
        ..pictures
    };
    let ids = Tensor::new(stored.integers("in.ids")?, device)?;
    let table = stored.tensor("in.z_q_table", device)?;
    let maps = table.index_select(&ids, 0)?;
    let maps = maps.reshape(((), latents.rows, latents.cols, latents.channels))?;
    let maps = maps.permute((0, 3, 1, 2))?;
    let labels = Tensor::new(stored.integers("in.labels")?, device)?;

    let mut made = Vec::new();
    for (name, config, maps) in [
        ("image", pictures, stored.tensor("in.image", device)?),
        ("token", latents, maps),
    ] {
        let parameters = stored.parameters(&format!("param.{name}."))?;
        let (vit, params) =
            Params::from_tensors(&parameters, device, DType::F32, |vb| Vit::new(config, &vb))?;
        let logits = vit.logits(&maps)?;
        let loss = cross_entropy(&logits, &labels)?;
        for (key, found) in [
            ("tokens", vit.tokens(&maps)?),
            ("logits", logits),
            ("ce", loss.clone()),
        ] {
            made.push(stored.compare(&format!("out.{name}.{key}"), &found)?);
        }
        for (key, grad) in Grads::of(&loss.backward()?, &params)?.iter() {
            made.push(stored.compare(&format!("grad.{name}.{key}"), grad)?);
        }
    }
    Ok(made)
}
