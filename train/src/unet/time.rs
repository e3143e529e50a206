//! The embedding of time.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::{diffusion::embed_times, nn::Linear};

/// Times as waves (Ho et al. 2020, appendix B), and two layers of these.
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
        let x = self.widen.forward(&embed_times(t, self.width)?)?.silu()?;
        self.mix.forward(&x)?.silu()
    }
}
