//! What one part of a batch gives: the losses of encoder, quantizer and decoder, and their gradients.

use candle_core::{D, DType, Module as _, Tensor, Var};
use vqlc_model::{
    network::{Decoder, Encoder},
    rng::Rng,
};

use super::{Gan, Perceptual, report::StepReport};
use crate::{
    Error, Params, Result, TokenizerConfig,
    losses::{adaptive, hinge},
    optim::Grads,
    quantizer::Quantizer,
};

/// What a part of a batch gave.
pub(super) struct Pass {
    pub(super) grads: Grads,
    pub(super) values: StepReport,
    /// The pictures made, without a graph.
    pub(super) made: Tensor,
    /// The latents and their ids, where they were quantised.
    pub(super) assigned: Option<(Tensor, Tensor)>,
}

/// All that the passes of one step read. Passes of several parts can be made side by side.
pub(super) struct Generator<'a> {
    pub(super) config: &'a TokenizerConfig,
    pub(super) encoder: &'a Encoder,
    pub(super) decoder: &'a Decoder,
    pub(super) quantizer: &'a Quantizer,
    pub(super) params: &'a Params,
    pub(super) last_layer: &'a Var,
    pub(super) gan: Option<&'a Gan>,
    pub(super) perceptual: Option<&'a Perceptual>,
    /// Steps made before this one.
    pub(super) step: u64,
}

impl Generator<'_> {
    /// Forward and backward for the pictures `[b, 3, h, w]` of a part.
    pub(super) fn pass(&self, x: &Tensor, part: usize) -> Result<Pass> {
        let loss = &self.config.loss;
        let mut values = StepReport::default();
        let z = self.encoder.forward(x)?;
        let variance = variance(&z)?;
        if !variance.is_finite() {
            return Err(Error::diverged(self.step + 1));
        }
        let mut assigned = None;
        let (z_q, quantizer_loss) = if self.step >= self.config.warm_start.steps {
            let quantized = self.quantizer.forward(&z, true)?;
            values.quantization_error = scalar(&quantized.commit)? / variance;
            let mut total = quantized.loss;
            assigned = Some((z.detach(), quantized.ids));
            if loss.quantizer_relative {
                total = (total / variance.max(1e-12))?;
            }
            values.quantizer = scalar(&total)?;
            (quantized.z_q, Some((total * loss.quantizer)?))
        } else {
            let noise = self.noise(&z, part)?;
            let deviation = self.config.warm_start.noise * variance.sqrt();
            ((&z + (noise * deviation)?)?, None)
        };
        let features = self.decoder.features(&z_q)?;
        let y = self.decoder.picture(&features)?;
        // The losses of a picture are differentiated at the picture first: their networks run once, and their graphs are gone before
        // the backward pass of the network that is trained.
        let (nll, mut at_picture) =
            adaptive::at_picture(&y, |y| self.reconstruction(x, y, &mut values))?;
        values.loss = scalar(&nll)? + loss.quantizer * values.quantizer;
        let weight = self.gan_weight();
        if let Some(gan) = self.gan
            && weight > 0.0
        {
            let (g, at_g) =
                adaptive::at_picture(&y, |y| hinge::generator(&gan.network.forward(y, true)?))?;
            // Balanced at the last layer, which needs that layer alone: everything before it is cut off.
            let again = self.decoder.picture(&features.detach())?;
            let [nll, other] =
                [&at_picture, &at_g].map(|gradient| adaptive::with_gradient(&again, gradient));
            values.adaptive_weight =
                adaptive::weight(&nll?, &other?, self.last_layer, loss.gan_adaptive_max)?;
            let weight = weight * values.adaptive_weight;
            values.generator = scalar(&g)?;
            values.loss += weight * values.generator;
            at_picture = (at_picture + (at_g * weight)?)?;
        }
        let mut surrogate = adaptive::with_gradient(&y, &at_picture)?;
        if let Some(quantizer_loss) = quantizer_loss {
            surrogate = (surrogate + quantizer_loss)?;
        }
        let store = surrogate.backward()?;
        Ok(Pass {
            grads: Grads::of(&store, self.params)?,
            values,
            made: y.detach(),
            assigned,
        })
    }

    /// The adversarial loss's weight at this step, before the adaptive one.
    fn gan_weight(&self) -> f64 {
        let section = &self.config.discriminator;
        if self.step < section.generator_start {
            return 0.0;
        }
        let since = (self.step - section.generator_start + 1) as f64;
        self.config.loss.gan * (since / section.ramp.max(1) as f64).min(1.0)
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
