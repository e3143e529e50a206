//! A block of a transformer.

use candle_core::{Result, Tensor};

use super::{Attention, Cache, LayerNorm, Mask, Mlp};

/// Attention, then two layers for each token alone, both normalised before and added to what they were made of (GPT-2's and ViT's).
#[derive(Debug)]
pub struct Block {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// The attention.
    pub attention: Attention,
    /// Before the layers.
    pub norm2: LayerNorm,
    /// The layers.
    pub mlp: Mlp,
}

impl Block {
    /// Applies it to the tokens `x` `[b, tokens, width]`; for mask and cache see [`Attention::forward`].
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn forward(&self, x: &Tensor, mask: Mask, cache: Option<&mut Cache>) -> Result<Tensor> {
        let attended = (self.attention).forward(&self.norm1.forward(x)?, mask, cache)?;
        let x = (x + attended)?;
        &x + self.mlp.forward(&self.norm2.forward(&x)?)?
    }
}
