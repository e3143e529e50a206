//! The layers of a block that look at each token alone.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Linear, LinearInit};

/// How the Gaussian error linear unit is taken (Hendrycks and Gimpel 2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// By the error function, as ViT has it.
    Erf,
    /// By its approximation with tanh, as DiT has it.
    Tanh,
}

/// Two layers, the inner one four times as wide, with timm's names: `fc1` and `fc2`.
#[derive(Debug)]
pub struct Mlp {
    widen: Linear,
    narrow: Linear,
    gelu: Gelu,
}

impl Mlp {
    /// Of `width` numbers; `init` draws new weights.
    ///
    /// # Errors
    /// What the builder says.
    pub fn new(width: usize, gelu: Gelu, init: LinearInit, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            widen: Linear::drawn(width, 4 * width, init, &vb.pp("fc1"))?,
            narrow: Linear::drawn(4 * width, width, init, &vb.pp("fc2"))?,
            gelu,
        })
    }

    /// Applies it to `x` `[.., width]`; gives f32.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let wide = self.widen.forward(x)?;
        let wide = match self.gelu {
            Gelu::Erf => wide.gelu_erf(),
            Gelu::Tanh => wide.gelu(),
        }?;
        self.narrow.forward(&wide)
    }
}
