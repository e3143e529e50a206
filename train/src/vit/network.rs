//! The network.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::nn::{
    Attention, Block, Gelu, LayerNorm, Linear, LinearInit, Mask, Mlp, PatchEmbedding, Patches, TIMM,
};

const EPS: f64 = 1e-6;

/// The sizes of a vision transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Channels of a map: 3 of a picture, as many as latents have of a map of these.
    pub channels: usize,
    /// Rows of a map, a multiple of `patch`.
    pub rows: usize,
    /// Columns of a map, a multiple of `patch`.
    pub cols: usize,
    /// Rows and columns of a patch; 1 makes each position of the map a token.
    pub patch: usize,
    /// Classes.
    pub classes: usize,
    /// Numbers of a token.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of the attention, a divisor of `width`.
    pub heads: usize,
}

impl VitConfig {
    /// How a map is cut.
    pub fn patches(&self) -> Patches {
        Patches {
            channels: self.channels,
            rows: self.rows,
            cols: self.cols,
            side: self.patch,
        }
    }
}

/// A transformer over a class token and the patches of a map, normalised before each part.
#[derive(Debug)]
pub struct Vit {
    config: VitConfig,
    patches: PatchEmbedding,
    class: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Vit {
    /// Builds it from parameters with timm's names, which MAE's are too.
    ///
    /// # Errors
    /// Patches that do not fill the map, heads that do not divide the width; what the builder says.
    pub fn new(config: VitConfig, vb: &VarBuilder) -> Result<Self> {
        let VitConfig { width, .. } = config;
        let init = Init::Randn {
            mean: 0.0,
            stdev: 0.02,
        };
        let tokens = 1 + config.patches().count();
        let blocks = (0..config.layers)
            .map(|i| block(&config, &vb.pp("blocks").pp(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            config,
            patches: PatchEmbedding::new(config.patches(), width, &vb.pp("patch_embed"))?,
            class: vb.get_with_hints((1, 1, width), "cls_token", init)?,
            positions: vb.get_with_hints((1, tokens, width), "pos_embed", init)?,
            blocks,
            norm: LayerNorm::new(width, EPS, &vb.pp("norm"))?,
            head: Linear::new(width, config.classes, &vb.pp("head"))?,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// The class token, then those of the patches row by row, of maps `[b, channels, rows, cols]` (f32): `[b, 1 + patches, width]`, f32,
    /// after the last normalisation.
    ///
    /// # Errors
    /// Maps of another shape; a tensor operation's.
    pub fn tokens(&self, maps: &Tensor) -> Result<Tensor> {
        let x = self.patches.forward(maps)?;
        let class = self.class.broadcast_as((x.dim(0)?, 1, x.dim(2)?))?;
        let mut x = Tensor::cat(&[&class, &x], 1)?.broadcast_add(&self.positions)?;
        for block in &self.blocks {
            x = block.forward(&x, Mask::None, None)?;
        }
        self.norm.forward(&x)
    }

    /// Logits `[b, classes]` of maps `[b, channels, rows, cols]` (f32), read from the class token.
    ///
    /// # Errors
    /// As [`Self::tokens`].
    pub fn logits(&self, maps: &Tensor) -> Result<Tensor> {
        let tokens = self.tokens(maps)?;
        self.head.forward(&tokens.narrow(1, 0, 1)?.squeeze(1)?)
    }
}

/// A block with timm's names.
fn block(config: &VitConfig, vb: &VarBuilder) -> Result<Block> {
    let VitConfig { width, heads, .. } = *config;
    let init = LinearInit::GPT;
    Ok(Block {
        norm1: LayerNorm::new(width, EPS, &vb.pp("norm1"))?,
        attention: Attention::fused(width, heads, init, &vb.pp("attn"))?,
        norm2: LayerNorm::new(width, EPS, &vb.pp("norm2"))?,
        mlp: Mlp::new(width, TIMM, Gelu::Erf, init, &vb.pp("mlp"))?,
    })
}

/// The layer that the parameter `name` of a network of `layers` blocks belongs to: 0 what makes the tokens, i + 1 block i, `layers` + 1 what
/// comes behind the blocks. Fine-tuning multiplies the learning rate of layer l by decay^(`layers` + 1 - l) (Bao et al. 2022, He et al. 2022).
pub fn layer_of(name: &str, layers: usize) -> usize {
    let first = name.split('.').next().unwrap_or_default();
    if ["cls_token", "pos_embed", "patch_embed"].contains(&first) {
        return 0;
    }
    block_of(name).map_or(layers + 1, |block| block + 1)
}

/// The number of the block that the parameter `name` is of.
pub(super) fn block_of(name: &str) -> Option<usize> {
    let (block, _) = name.strip_prefix("blocks.")?.split_once('.')?;
    // Of 32 bits, so that the number behind it is one too.
    block.parse::<u32>().ok().map(|block| block as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_go_from_the_tokens_to_the_head() {
        for (name, layer) in [
            ("cls_token", 0),
            ("pos_embed", 0),
            ("patch_embed.proj.bias", 0),
            ("blocks.0.norm1.weight", 1),
            ("blocks.11.mlp.fc2.bias", 12),
            ("norm.weight", 13),
            ("head.bias", 13),
        ] {
            assert_eq!(layer_of(name, 12), layer, "{name}");
        }
    }
}
