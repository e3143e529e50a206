//! A whole step's losses with the adaptive weight: `adaptive_weight.safetensors`, with the networks of `vqgan`, `lpips` and
//! `discriminator`.

use std::path::Path;

use candle_core::{DType, Device, Module as _, Tensor, Var};
use vqlc_model::{
    file::{PROJECTOR, SOURCE},
    network::{Decoder, Encoder},
    reference::{Comparison, ReferenceFile, vqgan_parameters},
};

use super::discriminator::discriminator;
use crate::{
    Error, Params, Result,
    losses::{
        adaptive::{at_picture, gradient, norm, weight, with_gradient},
        hinge,
        lpips::Lpips,
    },
    optim::Grads,
    quantizer::{Kind, Quantizer, QuantizerConfig},
};

const FILE: &str = "adaptive_weight.safetensors";
const LAST: &str = "decoder.conv_out.weight";
/// Ceiling of the weight.
const CEILING: f64 = 1e4;

/// Runs a generator's step as training does: each loss once, at the picture alone; the weight by the last layer alone; then everything
/// before the picture, once. Compares losses, norms, the weight and gradients of the total.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_adaptive_weight(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let (encoder, decoder, quantizer, params) = tokenizer(folder, device)?;
    let lpips = ReferenceFile::open(folder, "lpips.safetensors")?;
    let lpips = Lpips::from_tensors(&lpips.parameters("param.")?, device, DType::F32)?;
    let judge = ReferenceFile::open(folder, "discriminator.safetensors")?;
    let (judge, _) = discriminator(&judge, "n2.", device)?;
    let last: &Var = params
        .get(LAST)
        .ok_or_else(|| malformed(folder, format!("no {LAST}")))?;
    let commit_weight = stored
        .config()
        .get("commit_weight")
        .and_then(serde_json::Value::as_f64)
        .ok_or_else(|| malformed(folder, "configuration: no number commit_weight".into()))?;

    let x = stored.tensor("in.x", device)?;
    let quantized = quantizer.forward(&encoder.forward(&x)?, true)?;
    let features = decoder.features(&quantized.z_q)?;
    let picture = decoder.picture(&features)?;
    let (l1, at_l1) = at_picture(&picture, |y| Ok((&x - y)?.abs()?.mean_all()?))?;
    let (perceptual, at_lpips) = at_picture(&picture, |y| lpips.loss(y, &x))?;
    let (g, at_g) = at_picture(&picture, |y| hinge::generator(&judge.forward(y, true)?))?;
    let (nll, at_nll) = ((&l1 + &perceptual)?, (at_l1 + at_lpips)?);

    let again = decoder.picture(&features.detach())?;
    let (nll_there, g_there) = (
        with_gradient(&again, &at_nll)?,
        with_gradient(&again, &at_g)?,
    );
    let lambda = weight(&nll_there, &g_there, last, CEILING)?;
    let quantizer_loss = (&quantized.loss * commit_weight)?;
    let total = ((&nll + &quantizer_loss)? + (&g * lambda)?)?;
    let at_total = (at_nll + (at_g * lambda)?)?;
    let whole = (with_gradient(&picture, &at_total)? + quantizer_loss)?;

    let mut out = vec![
        stored.compare("out.ids", &quantized.ids)?,
        stored.compare("out.l1", &l1)?,
        stored.compare("out.lpips", &perceptual)?,
        stored.compare("out.nll", &nll)?,
        stored.compare("out.g_loss", &g)?,
        stored.compare("out.total", &total)?,
        stored.compare_doubles("out.lambda", &[lambda])?,
    ];
    for (name, loss) in [("nll", &nll_there), ("g_loss", &g_there)] {
        let short = name.trim_end_matches("_loss");
        let key = format!("out.{short}_grad_norm");
        out.push(stored.compare_doubles(&key, &[norm(loss, last)?])?);
        let key = format!("grad.{name}.{LAST}");
        out.push(stored.compare(&key, &gradient(loss, last)?)?);
    }
    let grads = Grads::of(&whole.backward()?, &params)?;
    for name in stored.keys("grad.total.") {
        let grad: &Tensor = grads
            .get(name)
            .ok_or_else(|| malformed(folder, format!("{name} has no gradient")))?;
        out.push(stored.compare(&format!("grad.total.{name}"), grad)?);
    }
    Ok(out)
}

fn malformed(folder: &Path, reason: String) -> Error {
    Error::malformed(&folder.join(FILE), reason)
}

/// The reference's network with an lc quantizer, and all that is trained of them.
fn tokenizer(folder: &Path, device: &Device) -> Result<(Encoder, Decoder, Quantizer, Params)> {
    let file = ReferenceFile::open(folder, "vqgan.safetensors")?;
    let (config, mut tensors) = vqgan_parameters(&file)?;
    let book = tensors
        .remove(SOURCE)
        .ok_or_else(|| malformed(folder, format!("no {SOURCE}")))?;
    let quantizer = QuantizerConfig {
        kind: Kind::Lc,
        codes: config.n_codes,
        dim: config.embed_dim,
        ..Default::default()
    };
    let quantizer = Quantizer::new(&quantizer, Some(&book), 1, device)?;
    quantizer.params().set(&tensors)?;
    tensors.retain(|name, _| !PROJECTOR.contains(&name.as_str()));
    let ((encoder, decoder), params) = Params::from_tensors(&tensors, device, DType::F32, |vb| {
        Ok((
            Encoder::new(&config, vb.clone())?,
            Decoder::new(&config, vb)?,
        ))
    })?;
    let params = params.joined(quantizer.params().clone());
    Ok((encoder, decoder, quantizer, params))
}
