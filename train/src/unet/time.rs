//! The embedding of time.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::nn::Linear;

/// The longest of the sinusoids, over 2 pi.
const PERIOD: f64 = 10_000.0;

/// Sinusoids of time (Ho et al. 2020, appendix B), and two layers of them.
#[derive(Debug)]
pub(super) struct TimeEmbedding {
    width: usize,
    widen: Linear,
    mix: Linear,
}

impl TimeEmbedding {
    /// Of `width` numbers, made into four times as many; parameters `0` and `2`.
    pub(super) fn new(width: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            width,
            widen: Linear::new(width, 4 * width, &vb.pp(0))?,
            mix: Linear::new(4 * width, 4 * width, &vb.pp(2))?,
        })
    }

    /// `[b, 4 width]` of times `[b]`, after the swish that every residual block begins with.
    pub(super) fn forward(&self, t: &Tensor) -> Result<Tensor> {
        let x = self.widen.forward(&sinusoids(t, self.width)?)?.silu()?;
        self.mix.forward(&x)?.silu()
    }
}

/// `[b, width]`: cosines, then sines of `t` `[b]` times powers of the period from 1 down.
fn sinusoids(t: &Tensor, width: usize) -> Result<Tensor> {
    let half = width / 2;
    let rates: Vec<f32> = (0..half)
        .map(|i| PERIOD.powf(-(i as f64) / half as f64) as f32)
        .collect();
    let rates = Tensor::from_vec(rates, (1, half), t.device())?;
    let phases = t.unsqueeze(1)?.broadcast_mul(&rates)?;
    Tensor::cat(&[phases.cos()?, phases.sin()?], 1)
}
