//! The layers of a block that look at each token alone.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use vqlc_ops::tensor::gelu;

use super::{Linear, LinearInit};

/// How the Gaussian error linear unit is taken (Hendrycks and Gimpel 2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// By the error function, as ViT has it.
    Erf,
    /// By its approximation with tanh, as DiT has it.
    Tanh,
}

/// timm's names of the layers of an [`Mlp`].
pub const TIMM: [&str; 2] = ["fc1", "fc2"];

/// Two layers, the inner one four times as wide.
#[derive(Debug)]
pub struct Mlp {
    widen: Linear,
    narrow: Linear,
    gelu: Gelu,
}

impl Mlp {
    /// Of `width` numbers; `names` are those of the layers, `init` draws new weights.
    ///
    /// # Errors
    /// What the builder says.
    pub fn new(
        width: usize,
        names: [&str; 2],
        gelu: Gelu,
        init: LinearInit,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let [widen, narrow] = names;
        Ok(Self {
            widen: Linear::drawn(width, 4 * width, init, &vb.pp(widen))?,
            narrow: Linear::drawn(4 * width, width, init, &vb.pp(narrow))?,
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
            Gelu::Erf => gelu(&wide, false),
            Gelu::Tanh => gelu(&wide, true),
        }?;
        self.narrow.forward(&wide)
    }
}
