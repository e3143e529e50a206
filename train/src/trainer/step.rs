//! One step: losses, gradients, optimisers.

use candle_core::{D, DType, Module as _, Tensor};
use vqlc_model::rng::Rng;

use super::{TokenizerTrainer, report::StepReport};
use crate::{
    Error, Result,
    losses::{adaptive, hinge},
    metrics::Usage,
    optim::Grads,
};

/// Tokens an entry in a window over which utilisation is counted.
const WINDOW: u64 = 4;

/// What one batch gave.
struct Pass {
    grads: Grads,
    values: StepReport,
    /// The pictures made, without a graph.
    made: Tensor,
    /// The latents and their ids, where they were quantised.
    assigned: Option<(Tensor, Tensor)>,
}

impl TokenizerTrainer {
    /// Makes the next step and returns its values.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a loss or gradient is not finite; parameters are those of the step before.
    pub(super) fn step(&mut self) -> Result<StepReport> {
        let accumulate = self.config.run.accumulate;
        let share = 1.0 / accumulate as f64;
        let lr = self.schedule.at((self.step + 1) as f64);
        let mut values = StepReport::default();
        let mut assigned = Vec::new();
        let (mut generator, mut discriminator): (Option<Grads>, Option<Grads>) = (None, None);
        for part in 0..accumulate {
            let x = self.next_batch()?;
            let pass = self.generator(&x, part)?;
            if self.discriminator_learns() {
                let (grads, loss) = self.discriminator(&x, &pass.made)?;
                values.discriminator += share * loss;
                sum(&mut discriminator, grads)?;
            }
            sum(&mut generator, pass.grads)?;
            assigned.extend(pass.assigned);
            for (to, from) in values
                .losses()
                .into_iter()
                .zip(pass.values.clone().losses())
            {
                *to += share * *from;
            }
        }
        if let Some(grads) = &mut generator {
            grads.scale(share)?;
            values.gradient_norm = match self.config.optimizer.clip {
                0.0 => grads.global_norm()?,
                clip => grads.clip(clip)?,
            };
            if ![values.loss, values.gradient_norm, values.discriminator]
                .iter()
                .all(|v| v.is_finite())
            {
                return Err(Error::Diverged {
                    step: self.step + 1,
                });
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
        for (z, ids) in assigned {
            self.quantizer.after_step(&z, &ids)?;
        }
        self.step += 1;
        values.step = self.step;
        values.lr = lr;
        Ok(values)
    }

    /// Whether latents are quantised at this step.
    pub(super) fn quantizes(&self) -> bool {
        self.step >= self.config.warm_start.steps
    }

    fn discriminator_learns(&self) -> bool {
        self.gan.is_some() && self.step >= self.config.discriminator.start
    }

    /// Counts ids; a window that is full is begun anew.
    fn count(&mut self, ids: &[u32]) -> Result<()> {
        let codes = self.config.model.n_codes;
        if self.usage.tokens() >= WINDOW * codes as u64 {
            self.usage = Usage::new(codes);
        }
        self.usage.add(ids)
    }

    /// The adversarial loss's weight at this step, before the adaptive one.
    fn gan_weight(&self) -> f64 {
        let section = &self.config.discriminator;
        if self.gan.is_none() || self.step < section.generator_start {
            return 0.0;
        }
        let since = (self.step - section.generator_start + 1) as f64;
        self.config.loss.gan * (since / section.ramp.max(1) as f64).min(1.0)
    }

    /// Forward and backward of encoder, quantizer and decoder for pictures `[b, 3, h, w]`.
    fn generator(&mut self, x: &Tensor, part: usize) -> Result<Pass> {
        let loss = self.config.loss.clone();
        let mut values = StepReport::default();
        let z = self.encoder.forward(x)?;
        let variance = variance(&z)?;
        let mut assigned = None;
        let (z_q, quantizer_loss) = if self.quantizes() {
            let quantized = self.quantizer.forward(&z, true)?;
            self.count(&quantized.ids.to_vec1::<u32>()?)?;
            let commit = scalar(&quantized.commit)?;
            values.quantization_error = commit / variance;
            let mut total = quantized.loss;
            assigned = Some((z.detach(), quantized.ids));
            if loss.quantizer_relative {
                total = (total / variance.max(1e-12))?;
            }
            values.quantizer = scalar(&total)?;
            (quantized.z_q, Some(total))
        } else {
            let noise = self.noise(&z, part)?;
            let deviation = self.config.warm_start.noise * variance.sqrt();
            ((&z + (noise * deviation)?)?, None)
        };
        let features = self.decoder.features(&z_q)?;
        let y = self.decoder.picture(&features)?;
        let mut total = self.reconstruction(x, &y, &mut values)?;
        if let Some(quantizer_loss) = quantizer_loss {
            total = (total + (quantizer_loss * loss.quantizer)?)?;
        }
        let weight = self.gan_weight();
        if let Some(gan) = &self.gan
            && weight > 0.0
        {
            // The weight that balances both gradients at the last layer needs that layer alone: everything before it is cut off.
            let again = self.decoder.picture(&features.detach())?;
            let nll = self.reconstruction(x, &again, &mut StepReport::default())?;
            let g = hinge::generator(&gan.network.forward(&again, true)?)?;
            let adaptive = adaptive::weight(&nll, &g, &self.last_layer, loss.gan_adaptive_max)?;
            let g = hinge::generator(&gan.network.forward(&y, true)?)?;
            values.generator = scalar(&g)?;
            values.adaptive_weight = adaptive;
            total = (total + (g * (adaptive * weight))?)?;
        }
        values.loss = scalar(&total)?;
        let store = total.backward()?;
        Ok(Pass {
            grads: Grads::of(&store, &self.params)?,
            values,
            made: y.detach(),
            assigned,
        })
    }

    /// The weighted sum of pixel and perceptual losses of `y` against `x`.
    fn reconstruction(&self, x: &Tensor, y: &Tensor, values: &mut StepReport) -> Result<Tensor> {
        let loss = &self.config.loss;
        let difference = (y - x)?;
        let l1 = difference.abs()?.mean_all()?;
        let l2 = difference.sqr()?.mean_all()?;
        values.l1 = scalar(&l1)?;
        values.l2 = scalar(&l2)?;
        let mut total = ((l1 * loss.l1)? + (l2 * loss.l2)?)?;
        if let Some(perceptual) = &self.perceptual {
            let distance = perceptual.loss(y, x)?;
            values.perceptual = scalar(&distance)?;
            total = (total + (distance * loss.perceptual)?)?;
        }
        Ok(total)
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

    /// Standard normal numbers of the shape of `like`, a function of seed, step and part.
    fn noise(&self, like: &Tensor, part: usize) -> Result<Tensor> {
        let mut rng = Rng::new(self.config.run.seed);
        for part in [self.step, part as u64] {
            rng = Rng::new(rng.next_u64() ^ part);
        }
        let values: Vec<f32> = (0..like.elem_count())
            .map(|_| rng.normal() as f32)
            .collect();
        Ok(Tensor::from_vec(values, like.shape(), like.device())?)
    }
}

/// Mean over the channels of the variance over everything else, of z `[b, c, h, w]`; no gradient.
pub(super) fn variance(z: &Tensor) -> Result<f64> {
    let rows = z.detach().transpose(0, 1)?.flatten_from(1)?;
    scalar(&rows.var(D::Minus1)?.mean_all()?)
}

pub(super) fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.to_dtype(DType::F32)?.to_scalar::<f32>()?))
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
