//! Stopping and going on.

use candle_core::{Device, Tensor};

use super::TokenizerTrainer;
use crate::{
    Result,
    checkpoint::{Found, add_part, part},
    metrics::Usage,
    run::Progress,
};

const PARAMS: &str = "params.";
const ADAM: &str = "adam.";
const EMA: &str = "ema.";
const QUANTIZER: &str = "quantizer.";
const GAN: &str = "gan.";
const GAN_STATE: &str = "gan_state.";
const GAN_ADAM: &str = "gan_adam.";
const USAGE: &str = "usage.counts";
const LAST_USAGE: &str = "usage.last";

impl TokenizerTrainer {
    /// Writes a checkpoint of the state after the last step.
    ///
    /// # Errors
    /// [`Error::Diverged`](crate::Error::Diverged) for weights that are not finite: the one before is worth more.
    pub(super) fn write_checkpoint(&mut self, progress: &mut dyn Progress) -> Result<()> {
        self.check_weights()?;
        let mut all = vqlc_model::params::Tensors::new();
        add_part(&mut all, PARAMS, self.params.values()?);
        add_part(&mut all, ADAM, self.adam.state(&self.params)?);
        add_part(&mut all, QUANTIZER, self.quantizer.state());
        if let Some(ema) = &self.ema {
            add_part(&mut all, EMA, ema.state()?);
        }
        if let Some(gan) = &self.gan {
            add_part(&mut all, GAN, gan.params.values()?);
            add_part(&mut all, GAN_STATE, gan.network.state()?);
            add_part(&mut all, GAN_ADAM, gan.adam.state(&gan.params)?);
        }
        let (filling, full) = self.usage.parts();
        for (name, usage) in [(USAGE, Some(filling)), (LAST_USAGE, full)] {
            if let Some(usage) = usage {
                let counts: Vec<i64> = usage.counts().iter().map(|&c| c as i64).collect();
                all.insert(name.into(), Tensor::new(counts, &Device::Cpu)?);
            }
        }
        let path = self.store.save(self.step, &all)?;
        progress.checkpoint(self.step, &path);
        Ok(())
    }

    /// Takes up a checkpoint, the newest that could be read.
    ///
    /// # Errors
    /// One that belongs to another configuration.
    pub(super) fn load(&mut self, found: &Found, progress: &mut dyn Progress) -> Result<()> {
        for reason in &found.passed_over {
            progress.note(&format!("checkpoint passed over: {reason}"));
        }
        let all = &found.tensors;
        self.params.set(&part(all, PARAMS))?;
        self.adam.load_state(&self.params, &part(all, ADAM))?;
        self.quantizer.load_state(&part(all, QUANTIZER))?;
        if let Some(ema) = &mut self.ema {
            ema.load_state(&part(all, EMA))?;
        }
        if let Some(gan) = &mut self.gan {
            gan.params.set(&part(all, GAN))?;
            gan.network.load_state(&part(all, GAN_STATE))?;
            gan.adam.load_state(&gan.params, &part(all, GAN_ADAM))?;
        }
        let counted = |name: &str| -> Result<Option<Usage>> {
            let Some(counts) = all.get(name) else {
                return Ok(None);
            };
            let counts = counts.to_vec1::<i64>()?.into_iter();
            Ok(Some(Usage::from_counts(
                counts.map(|c| c.max(0) as u64).collect(),
            )))
        };
        if let Some(filling) = counted(USAGE)? {
            self.usage.set(filling, counted(LAST_USAGE)?);
        }
        self.step = found.step;
        progress.note(&format!("going on from step {}", found.step));
        Ok(())
    }
}
