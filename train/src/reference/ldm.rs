//! Latent diffusion's UNet: `ldm.safetensors`.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use vqlc_model::reference::{Comparison, ReferenceFile};

use crate::{
    Error, Params, Result,
    diffusion::{Denoiser, Sampler, Sampling, sample},
    optim::Grads,
    unet::{Unet, UnetConfig},
};

const FILE: &str = "ldm.safetensors";

/// Runs the UNet reference of `folder` on `device` and compares what it says with and without classes, a loss and its
/// gradients, and what is sampled with it: by DDIM and DDPM as if it said the noise, by Heun as if it said the velocity.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_ldm(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let config: UnetConfig = setting(&stored, folder, "unet")?;
    let parameters = stored.parameters("param.")?;
    let (unet, params) = Params::from_tensors(&parameters, device, DType::F32, |vb| {
        Unet::new(config.clone(), &vb)
    })?;
    let tensor = |key: &str| stored.tensor(key, device);
    let classes = |key: &str| -> Result<Tensor> {
        let classes = stored.integers(key)?;
        Ok(Tensor::from_vec(classes, stored.shape(key)?, device)?)
    };

    let (x, t, labels) = (tensor("in.x")?, tensor("in.t")?, classes("in.classes")?);
    let said = unet.predict(&x, &t, &labels)?;
    let null = Tensor::full(unet.null(), labels.shape(), device)?;
    let mut made = vec![
        stored.compare("out.forward", &said)?,
        stored.compare("out.forward_null", &unet.predict(&x, &t, &null)?)?,
    ];
    let loss = (said - tensor("in.noise")?)?.sqr()?.mean_all()?;
    made.push(stored.compare("out.loss", &loss)?);
    let grads = Grads::of(&loss.backward()?, &params)?;
    for (name, grad) in grads.iter() {
        made.push(stored.compare(&format!("grad.{name}"), grad)?);
    }

    let (start, labels) = (tensor("in.start")?, classes("in.start_classes")?);
    let noises = tensor("in.noises")?;
    let (guidance, eta) = (
        setting(&stored, folder, "guidance")?,
        setting(&stored, folder, "eta")?,
    );
    let steps = setting(&stored, folder, "steps")?;
    for (key, sampler, steps, eta) in [
        ("out.ddim", Sampler::Ddim, steps, 0.0),
        ("out.ddim_eta", Sampler::Ddim, steps, eta),
        ("out.ddpm", Sampler::Ddpm, steps, 0.0),
        (
            "out.heun",
            Sampler::Heun,
            setting(&stored, folder, "heun_steps")?,
            0.0,
        ),
    ] {
        let how = Sampling {
            sampler,
            steps,
            eta,
            guidance,
        };
        let mut asked = 0;
        let noise = |_: &[usize]| {
            asked += 1;
            noises.get(asked - 1)
        };
        made.push(stored.compare(key, &sample(&unet, &how, &start, &labels, noise)?)?);
    }
    Ok(made)
}

/// A value of the file's configuration.
fn setting<T: serde::de::DeserializeOwned>(
    stored: &ReferenceFile,
    folder: &Path,
    key: &str,
) -> Result<T> {
    let value = stored.config().get(key).cloned().unwrap_or_default();
    serde_json::from_value(value)
        .map_err(|error| Error::malformed(&folder.join(FILE), format!("{key}: {error}")))
}
