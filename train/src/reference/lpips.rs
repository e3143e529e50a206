//! LPIPS: `lpips.safetensors` (VGG16) and `lpips_alex.safetensors` (AlexNet).

use std::path::Path;

use candle_core::{DType, Device, Var};
use candle_nn::Init;
use vqlc_model::{
    params::{RandomParams, Tensors},
    reference::{Comparison, ReferenceFile},
};

use crate::{Result, losses::lpips::Lpips};

/// Compares distances on VGG16, their parts, features and the gradient at one of the pictures.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_lpips(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, "lpips.safetensors")?;
    compare(&stored, &stored.parameters("param.")?, device)
}

/// The same on AlexNet, whose weights are drawn from the file's `weights_seed`.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_lpips_alex(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, "lpips_alex.safetensors")?;
    compare(&stored, &alexnet(stored.weights_seed()?)?, device)
}

fn compare(stored: &ReferenceFile, weights: &Tensors, device: &Device) -> Result<Vec<Comparison>> {
    let lpips = Lpips::from_tensors(weights, device, DType::F32)?;
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

/// AlexNet's and LPIPS's tensors for it, drawn.
fn alexnet(seed: u64) -> Result<Tensors> {
    const CONVS: [(usize, [usize; 4]); 5] = [
        (0, [64, 3, 11, 11]),
        (3, [192, 64, 5, 5]),
        (6, [384, 192, 3, 3]),
        (8, [256, 384, 3, 3]),
        (10, [256, 256, 3, 3]),
    ];
    let ((), tensors) = RandomParams::build(seed, &Device::Cpu, |vb| {
        for (k, (number, shape)) in CONVS.into_iter().enumerate() {
            let [outputs, inputs, side, _] = shape;
            let uniform = |lo, up| Init::Uniform { lo, up };
            let range = (3.0 / (inputs * side * side) as f64).sqrt();
            let conv = vb.pp(format!("features.{number}"));
            conv.get_with_hints(&shape, "weight", uniform(-range, range))?;
            conv.get_with_hints(outputs, "bias", uniform(-0.1, 0.1))?;
            let name = format!("lin{k}.model.1.weight");
            vb.get_with_hints((1, outputs, 1, 1), &name, uniform(0.0, 1.0))?;
        }
        Ok(())
    })?;
    Ok(tensors)
}
