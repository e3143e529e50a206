//! The quantizers that the paper compares with: `quantizer_variants.safetensors`.

use std::path::Path;

use candle_core::{Device, Tensor, Var};
use vqlc_model::{
    params::Tensors,
    reference::{Comparison, ReferenceFile},
};

use crate::{
    Error, Result,
    optim::Grads,
    quantizer::{Kind, Quantized, Quantizer, QuantizerConfig},
};

const FILE: &str = "quantizer_variants.safetensors";
/// Weight of the quantizer's loss in the reference's total.
const WEIGHT: f64 = 0.1;

/// Runs vq, fc and ema (two updates, and one of the usual start), and compares ids, entries, losses, gradients and states.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_quantizer_variants(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let run = Run {
        stored: ReferenceFile::open(folder, FILE)?,
        device,
    };
    let mut out = Vec::new();
    run.trained(Kind::Vq, "vq", &mut out)?;
    run.trained(Kind::Fc, "fc", &mut out)?;
    run.moving("ema", &["in.z", "in.ema.z2"], &mut out)?;
    run.moving("ema0", &["in.z"], &mut out)?;
    Ok(out)
}

struct Run<'a> {
    stored: ReferenceFile,
    device: &'a Device,
}

impl Run<'_> {
    /// The sizes stored, with the paper's constants.
    fn config(&self, kind: Kind) -> Result<QuantizerConfig> {
        let number = |key: &str| {
            let found = self.stored.config().get(key).and_then(|v| v.as_f64());
            found.ok_or_else(|| Error::Config(format!("{FILE}: no number {key}")))
        };
        let dim = self.stored.tensor("in.z", &Device::Cpu)?.dim(1)?;
        Ok(QuantizerConfig {
            kind,
            codes: number("n_codes")? as usize,
            dim,
            fc_dim: number("fc_dim")? as usize,
            ema_decay: number("ema_decay")?,
            ema_eps: number("ema_eps")?,
            ..Default::default()
        })
    }

    /// Quantizes the latents stored as `key`, and adds the upstream loss mean(w * z_q).
    fn forward(&self, quantizer: &Quantizer, key: &str) -> Result<(Var, Quantized, Tensor)> {
        let z = Var::from_tensor(&self.stored.tensor(key, self.device)?)?;
        let found = quantizer.forward(z.as_tensor(), true)?;
        let upstream = self.stored.tensor("in.w", self.device)?;
        let loss = ((&found.z_q * upstream)?.mean_all()? + (&found.loss * WEIGHT)?)?;
        Ok((z, found, loss))
    }

    fn trained(&self, kind: Kind, tag: &str, out: &mut Vec<Comparison>) -> Result<()> {
        let stored = &self.stored;
        let quantizer = Quantizer::new(&self.config(kind)?, None, 1, self.device)?;
        quantizer
            .params()
            .set(&stored.parameters(&format!("param.{tag}."))?)?;
        let (z, found, loss) = self.forward(&quantizer, "in.z")?;
        let mut compare = |key: &str, tensor: &Tensor| -> Result<()> {
            out.push(stored.compare(&format!("out.{tag}.{key}"), tensor)?);
            Ok(())
        };
        compare("ids", &found.ids)?;
        compare("z_q", &found.z_q)?;
        compare("commit", &found.commit)?;
        compare("codebook_loss", &found.codebook_loss)?;
        compare("loss", &loss)?;
        let store = loss.backward()?;
        if let Some(grad) = store.get(z.as_tensor()) {
            out.push(stored.compare(&format!("grad.{tag}.z"), grad)?);
        }
        for (name, grad) in Grads::of(&store, quantizer.params())?.iter() {
            out.push(stored.compare(&format!("grad.{tag}.{name}"), grad)?);
        }
        Ok(())
    }

    fn moving(&self, tag: &str, batches: &[&str], out: &mut Vec<Comparison>) -> Result<()> {
        let stored = &self.stored;
        let config = self.config(Kind::Ema)?;
        let mut quantizer = Quantizer::new(&config, None, 1, self.device)?;
        let mut start = Tensors::new();
        for name in ["cluster_size", "embed_avg", "weight"] {
            let tensor = stored.tensor(&format!("in.{tag}.{name}"), self.device)?;
            start.insert(name.into(), tensor);
        }
        quantizer.load_state(&start)?;
        for (step, key) in batches.iter().enumerate() {
            let at = format!("{tag}.step{}", step + 1);
            let (z, found, loss) = self.forward(&quantizer, key)?;
            out.push(stored.compare(&format!("out.{at}.ids"), &found.ids)?);
            out.push(stored.compare(&format!("out.{at}.z_q"), &found.z_q)?);
            out.push(stored.compare(&format!("out.{at}.commit"), &found.commit)?);
            if let Some(grad) = loss.backward()?.get(z.as_tensor()) {
                out.push(stored.compare(&format!("grad.{at}.z"), grad)?);
            }
            quantizer.after_step(z.as_tensor(), &found.ids)?;
            for (name, tensor) in quantizer.state() {
                out.push(stored.compare(&format!("out.{at}.{name}"), &tensor)?);
            }
        }
        Ok(())
    }
}
