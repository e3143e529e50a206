//! Adam, AdamW and the learning rate: `adam_steps.safetensors`.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use vqlc_model::reference::{Comparison, ReferenceFile};

use crate::{
    Params, Result,
    optim::{Adam, AdamConfig, Decay, Grads, Schedule},
};

const STEPS: u64 = 5;

/// Trains the reference's small network for five steps with each optimiser, and samples its learning rates.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_adam_steps(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, "adam_steps.safetensors")?;
    let mut out = Vec::new();
    let adam = AdamConfig::default();
    let adamw = AdamConfig {
        betas: [0.9, 0.95],
        eps: 1e-8,
        weight_decay: 0.05,
    };
    for (tag, config) in [("adam", adam), ("adamw", adamw)] {
        optimiser(&stored, tag, config, device, &mut out)?;
    }
    let plain = Schedule {
        base: 1e-3,
        min: 1e-5,
        warmup: 10.0,
        hold: 0.0,
        total: 100.0,
        decay: Decay::Cosine,
    };
    let min0 = Schedule { min: 0.0, ..plain };
    let keep = Schedule {
        hold: 40.0,
        ..plain
    };
    for (key, schedule, pace) in [
        ("out.lr", plain, 1.0),
        ("out.lr_half_steps", plain, 0.5),
        ("out.lr_min0", min0, 1.0),
        ("out.lr_keep", keep, 1.0),
    ] {
        let count = stored.shape(key)?.iter().product::<usize>();
        let rates: Vec<f64> = (0..count).map(|t| schedule.at(t as f64 * pace)).collect();
        out.push(stored.compare_doubles(key, &rates)?);
    }
    Ok(out)
}

fn optimiser(
    stored: &ReferenceFile,
    tag: &str,
    config: AdamConfig,
    device: &Device,
    out: &mut Vec<Comparison>,
) -> Result<()> {
    let start = stored.parameters("param.")?;
    let (_, params) = Params::from_tensors(&start, device, DType::F32, |vb| {
        for (name, tensor) in &start {
            vb.get(tensor.shape(), name)?;
        }
        Ok(())
    })?;
    let (x, y) = (
        stored.tensor("in.x", device)?,
        stored.tensor("in.y", device)?,
    );
    let mut adam = Adam::new(config)?;
    for step in 1..=STEPS {
        let hidden = linear(&params, "fc1", &x)?.tanh()?;
        let loss = (linear(&params, "fc2", &hidden)? - &y)?.sqr()?.mean_all()?;
        out.push(stored.compare(&format!("out.{tag}.step{step}.loss"), &loss)?);
        let grads = Grads::of(&loss.backward()?, &params)?;
        if step == 1 {
            for (name, grad) in grads.iter() {
                out.push(stored.compare(&format!("grad.{name}"), grad)?);
            }
        }
        adam.step(&params, &grads, 1e-3)?;
        for (name, value) in params.values()? {
            let before = start.get(&name).map(|t| t.to_device(device));
            out.push(stored.compare(&format!("out.{tag}.step{step}.{name}"), &value)?);
            if let Some(before) = before {
                let key = format!("out.{tag}.step{step}.delta.{name}");
                out.push(stored.compare(&key, &(value - before?)?)?);
            }
        }
    }
    Ok(())
}

fn linear(params: &Params, layer: &str, x: &Tensor) -> Result<Tensor> {
    let find = |part: &str| {
        let name = format!("{layer}.{part}");
        let missing = || vqlc_model::Error::MissingTensor {
            name: name.clone(),
            expected: vec![],
        };
        params.get(&name).ok_or_else(missing)
    };
    let (weight, bias) = (find("weight")?, find("bias")?);
    Ok(x.matmul(&weight.t()?)?.broadcast_add(bias.as_tensor())?)
}
