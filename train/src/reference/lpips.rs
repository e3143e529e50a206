//! LPIPS: `lpips.safetensors`.

use std::path::Path;

use candle_core::{DType, Device, Var};
use vqlc_model::reference::{Comparison, ReferenceFile};

use crate::{Result, losses::lpips::Lpips};

const FILE: &str = "lpips.safetensors";

/// Compares distances, their parts, features and the gradient at one of the pictures.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_lpips(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let lpips = Lpips::from_tensors(&stored.parameters("param.")?, device, DType::F32)?;
    let x = stored.tensor("in.x", device)?;
    let y = Var::from_tensor(&stored.tensor("in.y", device)?)?;
    let distances = lpips.distances(y.as_tensor(), &x)?;
    let layers = lpips.layers(y.as_tensor(), &x)?;
    let mut out = vec![
        stored.compare("out.distance", &distances)?,
        stored.compare("out.layers", &layers)?,
        stored.compare("out.mean", &lpips.loss(y.as_tensor(), &x)?)?,
    ];
    for (k, features) in lpips.features(&x)?.into_iter().enumerate() {
        out.push(stored.compare(&format!("out.tap{k}_mean"), &features.mean((2, 3))?)?);
    }
    let gradient = crate::losses::adaptive::gradient(&distances.sum_all()?, &y)?;
    out.push(stored.compare("grad.in.y", &gradient)?);
    Ok(out)
}
