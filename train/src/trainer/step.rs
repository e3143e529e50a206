//! One step: losses, gradients, optimisers.

use candle_core::Tensor;

use super::{
    TokenizerTrainer,
    generator::{Generator, Pass, scalar},
    report::StepReport,
};
use crate::{Error, Result, losses::hinge, optim::Grads};

impl TokenizerTrainer {
    /// Makes the next step and returns its values.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a loss or gradient is not finite; parameters are those of the step before.
    pub(super) fn make_step(&mut self) -> Result<StepReport> {
        let accumulate = self.config.run.accumulate;
        let share = 1.0 / accumulate as f64;
        let lr = self.schedule.at((self.step + 1) as f64);
        let quantized = self.quantizes();
        let mut values = StepReport::default();
        let mut assigned = Vec::new();
        let (mut generator, mut discriminator): (Option<Grads>, Option<Grads>) = (None, None);
        let together = self.parts.together();
        for first in (0..accumulate).step_by(together) {
            let count = together.min(accumulate - first);
            let parts: Vec<Tensor> = (0..count)
                .map(|_| self.next_batch())
                .collect::<Result<_>>()?;
            let passes = self.passes(&parts, first)?;
            for (x, mut pass) in parts.iter().zip(passes) {
                if self.discriminator_learns() {
                    let (grads, loss) = self.discriminator(x, &pass.made)?;
                    values.discriminator += share * loss;
                    sum(&mut discriminator, grads)?;
                }
                sum(&mut generator, pass.grads)?;
                if let Some((z, ids)) = pass.assigned {
                    self.usage.add(&ids.to_vec1::<u32>()?)?;
                    assigned.push((z, ids));
                }
                for (to, from) in values.losses().into_iter().zip(pass.values.losses()) {
                    *to += share * *from;
                }
            }
        }
        if let Some(grads) = &mut generator {
            grads.scale(share)?;
            values.gradient_norm = match self.config.optimizer.clip {
                0.0 => grads.global_norm()?,
                clip => grads.clip(clip)?,
            };
            let of_discriminator = match &discriminator {
                Some(grads) => grads.global_norm()?,
                None => 0.0,
            };
            let all = [
                values.loss,
                values.gradient_norm,
                values.discriminator,
                of_discriminator,
            ];
            if !all.iter().all(|v| v.is_finite()) {
                return Err(Error::diverged(self.step + 1));
            }
            self.adam.step(&self.params, grads, lr)?;
            if let Some(ema) = &mut self.ema {
                ema.update(&self.params)?;
            }
        }
        if let (Some(mut grads), Some(gan)) = (discriminator, &mut self.gan) {
            grads.scale(share)?;
            let lr = lr * self.config.discriminator.lr_factor;
            gan.adam.step(&gan.params, &grads, lr)?;
        }
        if !assigned.is_empty() {
            let (z, ids): (Vec<Tensor>, Vec<Tensor>) = assigned.into_iter().unzip();
            self.quantizer
                .after_step(&Tensor::cat(&z, 0)?, &Tensor::cat(&ids, 0)?)?;
        }
        self.step += 1;
        values.step = self.step;
        values.lr = lr;
        values.phase = match quantized {
            true => "quantized",
            false => "autoencoder",
        };
        Ok(values)
    }

    /// The passes of some parts, of which the first is number `first`: side by side where there are pools.
    fn passes(&self, parts: &[Tensor], first: usize) -> Result<Vec<Pass>> {
        let generator = Generator {
            config: &self.config,
            encoder: &self.encoder,
            decoder: &self.decoder,
            quantizer: &self.quantizer,
            params: &self.params,
            last_layer: &self.last_layer,
            gan: self.gan.as_ref(),
            perceptual: self.perceptual.as_ref(),
            step: self.step,
        };
        self.parts
            .map(parts, first, |x, part| generator.pass(x, part))
    }

    /// Whether latents are quantised at this step.
    pub(super) fn quantizes(&self) -> bool {
        self.step >= self.config.warm_start.steps
    }

    fn discriminator_learns(&self) -> bool {
        self.gan.is_some() && self.step >= self.config.discriminator.start
    }

    /// Forward and backward of the discriminator.
    fn discriminator(&mut self, real: &Tensor, made: &Tensor) -> Result<(Grads, f64)> {
        let Some(gan) = &mut self.gan else {
            return Err(Error::Config("there is no discriminator".into()));
        };
        let real = gan.network.learn(real)?;
        let made = gan.network.learn(made)?;
        let loss = hinge::discriminator(&real, &made)?;
        let store = loss.backward()?;
        Ok((Grads::of(&store, &gan.params)?, scalar(&loss)?))
    }
}

fn sum(total: &mut Option<Grads>, grads: Grads) -> Result<()> {
    match total {
        Some(total) => total.add(grads),
        None => {
            *total = Some(grads);
            Ok(())
        }
    }
}
