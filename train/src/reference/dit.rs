//! The diffusion transformer, its two losses and sampling: `dit.safetensors`.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use vqlc_model::reference::{Comparison, ReferenceFile};

use crate::{
    Error, Params, Result,
    diffusion::{Denoiser, NoiseSchedule, Sampler, Sampling, flow, sample},
    dit::{Dit, DitConfig, fixed_positions},
    optim::Grads,
};

const FILE: &str = "dit.safetensors";

/// Runs the network of the reference in `folder` on `device` and compares positions, predictions, losses, gradients and samples.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_dit(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let malformed = |key: &str| Error::malformed(&folder.join(FILE), format!("no {key}"));
    let number = |key: &str| {
        let value = stored.config().get(key).and_then(|v| v.as_u64());
        value.map(|n| n as usize).ok_or_else(|| malformed(key))
    };
    let config = DitConfig {
        channels: number("channels")?,
        rows: number("size")?,
        cols: number("size")?,
        patch: number("patch")?,
        classes: number("classes")?,
        width: number("dim")?,
        layers: number("depth")?,
        heads: number("heads")?,
        waves: number("freq_dim")?,
    };
    let mut parameters = stored.parameters("param.")?;
    let positions = parameters
        .remove("pos_embed")
        .ok_or_else(|| malformed("param.pos_embed"))?;
    let mut made = vec![compare_positions(&config, &positions)?];
    let (dit, params) =
        Params::from_tensors(&parameters, device, DType::F32, |vb| Dit::new(config, &vb))?;

    let tensor = |key: &str| stored.tensor(key, device);
    let (x, noise) = (tensor("in.x")?, tensor("in.noise")?);
    let steps = stored.integers("in.t")?;
    let t = Tensor::new(steps.as_slice(), device)?.to_dtype(DType::F32)?;
    let classes = Tensor::new(stored.integers("in.y")?, device)?;
    let none = Tensor::full(dit.null(), classes.dims1()?, device)?;
    let forward = dit.predict(&x, &t, &classes)?;
    made.push(stored.compare("out.forward", &forward)?);
    made.push(stored.compare("out.forward_null", &dit.predict(&x, &t, &none)?)?);

    let schedule = NoiseSchedule::linear();
    made.push(stored.compare_doubles("out.ddpm.alphas_cumprod", schedule.alphas_cumprod())?);
    let noised = schedule.noised(&x, &noise, &steps)?;
    made.push(stored.compare("out.ddpm.x_t", &noised)?);
    made.push(stored.compare("out.ddpm.pred", &dit.predict(&noised, &t, &classes)?)?);
    let ddpm = schedule.loss(&dit, &x, &noise, &steps, &classes)?;

    let t = tensor("in.t_sit")?;
    let times = t.to_vec1::<f32>()?;
    let noised = flow::path(&x, &noise, &times)?;
    made.push(stored.compare("out.sit.x_t", &noised)?);
    made.push(stored.compare("out.sit.velocity", &dit.predict(&noised, &t, &classes)?)?);
    let sit = flow::loss(&dit, &x, &noise, &times, &classes)?;

    for (name, loss) in [("ddpm", ddpm), ("sit", sit)] {
        made.push(stored.compare(&format!("out.{name}.loss"), &loss)?);
        for (key, grad) in Grads::of(&loss.backward()?, &params)?.iter() {
            made.push(stored.compare(&format!("grad.{name}.{key}"), grad)?);
        }
    }

    let scale = stored.config().get("cfg_scale").and_then(|v| v.as_f64());
    let scale = scale.ok_or_else(|| malformed("cfg_scale"))?;
    let classes = Tensor::new(stored.integers("in.y_sample")?, device)?;
    for (key, guidance) in [("euler", 1.0), ("euler_cfg", scale)] {
        let how = Sampling {
            sampler: Sampler::Euler,
            steps: number("euler_steps")?,
            eta: 0.0,
            guidance,
        };
        let found = sample(&dit, &how, &noise, &classes, |_| {
            candle_core::bail!("Euler steps add no noise")
        })?;
        made.push(stored.compare(&format!("out.sit.{key}"), &found)?);
    }
    Ok(made)
}

/// Positions are no result, and have no tolerance in the folder: they are the formula's in f32, so each is within its rounding.
fn compare_positions(config: &DitConfig, stored: &Tensor) -> Result<Comparison> {
    let (rows, cols) = config.patches().grid();
    let found = fixed_positions(rows, cols, config.width, &Device::Cpu)?;
    let error = (found - stored)?.abs()?.max_all()?.to_scalar::<f32>()?;
    Ok(Comparison {
        key: "param.pos_embed".into(),
        error: f64::from(error),
        limit: 1e-7,
    })
}
