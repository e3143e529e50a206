//! PatchGAN and the hinge losses: `discriminator.safetensors`.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use vqlc_model::{
    params::Tensors,
    reference::{Comparison, ReferenceFile},
};

use crate::{
    Error, Params, Result,
    losses::{adaptive::at_picture, discriminator::Discriminator, hinge},
    optim::Grads,
};

const FILE: &str = "discriminator.safetensors";

/// The network stored under `prefix` (`n2.` or `n3.`), with its running statistics.
///
/// # Errors
/// A file that does not hold what it should.
pub(super) fn discriminator(
    stored: &ReferenceFile,
    prefix: &str,
    device: &Device,
) -> Result<(Discriminator, Params)> {
    let mut parameters = stored.parameters(&format!("param.{prefix}"))?;
    let running = |name: &String| name.contains("running_");
    let mut state: Tensors = parameters.clone();
    state.retain(|name, _| running(name));
    parameters.retain(|name, _| !running(name));
    for name in stored.keys(&format!("param.{prefix}")) {
        if name.ends_with("num_batches_tracked") {
            let count = stored.integers(&format!("param.{prefix}{name}"))?;
            let count = i64::from(count.first().copied().unwrap_or(0));
            state.insert(name.into(), Tensor::new(count, &Device::Cpu)?);
        }
    }
    let convolutions = parameters.values().filter(|t| t.rank() == 4).count();
    let channels = parameters
        .get("main.0.weight")
        .map_or(0, |t| t.dims().first().copied().unwrap_or(0));
    let layers = convolutions.saturating_sub(2);
    let (mut network, params) =
        Discriminator::from_tensors(layers, channels, &parameters, device, DType::F32)?;
    network.load_state(&state)?;
    Ok((network, params))
}

/// Runs a discriminator of each depth stored through a training step of its own and the generator's, and compares logits, losses,
/// running statistics and gradients.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_discriminator(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let mut out = Vec::new();
    for case in ["n2", "n3"] {
        compare_case(&stored, case, device, &mut out)?;
    }
    Ok(out)
}

fn compare_case(
    stored: &ReferenceFile,
    case: &str,
    device: &Device,
    out: &mut Vec<Comparison>,
) -> Result<()> {
    let (mut network, params) = discriminator(stored, &format!("{case}."), device)?;
    let real = stored.tensor("in.real", device)?;
    let fake = stored.tensor("in.fake", device)?;
    let statistics = |at: &str, network: &Discriminator| -> Result<Vec<Comparison>> {
        let compare = |(name, tensor): (String, Tensor)| {
            Ok(stored.compare(&format!("out.{case}.{at}.{name}"), &tensor)?)
        };
        network.state()?.into_iter().map(compare).collect()
    };
    let mut compare = |key: &str, tensor: &Tensor| -> Result<()> {
        out.push(stored.compare(&format!("out.{case}.{key}"), tensor)?);
        Ok(())
    };

    let real_logits = network.learn(&real)?;
    compare("logits_real", &real_logits)?;
    let after_real = statistics("after_real", &network)?;
    let fake_logits = network.learn(&fake)?;
    compare("logits_fake", &fake_logits)?;
    let after_step = statistics("after_step", &network)?;
    let d_loss = hinge::discriminator(&real_logits, &fake_logits)?;
    compare("d_loss", &d_loss)?;
    compare("eval_logits_real", &network.forward(&real, false)?)?;
    compare("eval_logits_fake", &network.forward(&fake, false)?)?;
    let judge = |x: &Tensor| hinge::generator(&network.forward(x, true)?);
    let (g_loss, at_fake) = at_picture(&fake, judge)?;
    compare("g_loss", &g_loss)?;
    out.extend(after_real.into_iter().chain(after_step));
    out.push(stored.compare(&format!("grad.g_loss.{case}.fake"), &at_fake)?);

    let g_of_params = hinge::generator(&network.learn(&fake)?)?;
    for (loss, value) in [("d_loss", d_loss), ("g_loss", g_of_params)] {
        let grads = Grads::of(&value.backward()?, &params)?;
        if grads.len() != params.iter().count() {
            return Err(Error::Argument {
                what: "gradients of a discriminator",
                expected: params.iter().count().to_string(),
                found: grads.len().to_string(),
            });
        }
        for (name, grad) in grads.iter() {
            out.push(stored.compare(&format!("grad.{loss}.{case}.{name}"), grad)?);
        }
    }
    Ok(())
}
