//! EfficientNet-Lite0 and what is built on it: `efficientnet_lite0.safetensors`.

use std::path::Path;

use candle_core::{DType, Device, Var};
use vqlc_model::{
    params::RandomParams,
    reference::{Comparison, ReferenceFile},
};

use crate::{
    Error, Result,
    backbone::{EfficientNet, efficientnet_lite0},
    losses::perceptual::{perceptual_distances, perceptual_loss},
};

const FILE: &str = "efficientnet_lite0.safetensors";
/// What an f32 implementation meets, relative to the norm of each output.
const LIMIT: f64 = 1e-4;
/// The same of a gradient, which passes sums of many signs.
const GRADIENT_LIMIT: f64 = 1e-3;

/// Compares the outputs of all stages and the class scores on `device`; where the file holds them, also perceptual distances and
/// their gradient. The weights are drawn from the file's `weights_seed` if it states one, else they are read from
/// `efficientnet_lite0.safetensors` in `weights`.
///
/// # Errors
/// A folder that does not hold what it should; weights that are not there.
pub fn compare_efficientnet(
    folder: &Path,
    weights: &Path,
    device: &Device,
) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let network = if stored.config().contains_key("weights_seed") {
        RandomParams::build(stored.weights_seed()?, device, |vb| EfficientNet::new(&vb))?.0
    } else {
        efficientnet_lite0(&weights.join(FILE), device, DType::F32)?
    };
    let mut out = Vec::new();
    let stages = network.stages(&stored.tensor("in.x", device)?, EfficientNet::HEAD)?;
    for (i, stage) in stages.iter().enumerate() {
        out.push(compare(&stored, &format!("out.stage{i}"), stage, LIMIT)?);
    }
    let logits = network.logits(&stages[EfficientNet::HEAD])?;
    out.push(compare(&stored, "out.logits", &logits, LIMIT)?);
    if stored.shape("in.pictures").is_ok() {
        let pictures = Var::from_tensor(&stored.tensor("in.pictures", device)?)?;
        let target = stored.tensor("in.target", device)?;
        let distances = perceptual_distances(&network, &pictures, &target)?;
        out.push(compare(&stored, "out.perceptual", &distances, LIMIT)?);
        let gradients = perceptual_loss(&network, &pictures, &target)?.backward()?;
        let gradient = gradients
            .get(&pictures)
            .ok_or_else(|| candle_core::Error::Msg("no gradient reached the pictures".into()))?;
        out.push(compare(&stored, "grad.pictures", gradient, GRADIENT_LIMIT)?);
    }
    Ok(out)
}

pub(super) fn compare(
    stored: &ReferenceFile,
    key: &str,
    found: &candle_core::Tensor,
    limit: f64,
) -> Result<Comparison> {
    let found = found.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let (found, expected) = (found.flatten_all()?.to_vec1::<f64>()?, stored.doubles(key)?);
    if found.len() != expected.len() {
        return Err(Error::Argument {
            what: "reference tensor",
            expected: format!("{key} with {} values", found.len()),
            found: expected.len().to_string(),
        });
    }
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let difference = squares(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
    Ok(Comparison {
        key: key.into(),
        error: (difference / squares(&mut expected.iter().copied())).sqrt(),
        limit,
    })
}
