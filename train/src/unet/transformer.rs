//! The transformer between residual blocks.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::VarBuilder;
use vqlc_ops::tensor::{self, Order};

use super::{
    UnetConfig,
    layers::{Conv, GroupNorm},
};
use crate::nn::{CrossAttention, LayerNorm, Linear};

const EPS: f64 = 1e-5;

/// Places of a map attend to each other and to the context, one block deep; added to the map.
#[derive(Debug)]
pub(super) struct Transformer {
    norm: GroupNorm,
    enter: Conv,
    block: Block,
    leave: Conv,
}

impl Transformer {
    pub(super) fn new(config: &UnetConfig, width: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            norm: GroupNorm::alone(config.groups, width, &vb.pp("norm"))?,
            enter: Conv::same(width, width, 1, &vb.pp("proj_in"))?,
            block: Block::new(config, width, &vb.pp("transformer_blocks.0"))?,
            leave: Conv::zero(width, width, 1, &vb.pp("proj_out"))?,
        })
    }

    /// Maps `x` of `width` channels, `context` `[b, s, context]`; gives the shape of `x`.
    pub(super) fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let entered = self.enter.forward(&self.norm.forward(x)?)?;
        // A token is a position with all its channels.
        let order = self.enter.order();
        let last = Order::ChannelsLast.of_channels_first(&order.to_channels_first(&entered)?)?;
        let tokens = last.flatten(1, 2)?.contiguous()?;
        let tokens = self.block.forward(&tokens.to_dtype(DType::F32)?, context)?;
        let map = tokens.to_dtype(x.dtype())?.reshape(last.shape())?;
        let map = order.of_channels_first(&Order::ChannelsLast.to_channels_first(&map)?)?;
        tensor::add(x, &self.leave.forward(&map.contiguous()?)?)
    }
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    among: CrossAttention,
    norm2: LayerNorm,
    across: CrossAttention,
    norm3: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl Block {
    fn new(config: &UnetConfig, width: usize, vb: &VarBuilder) -> Result<Self> {
        let UnetConfig { heads, context, .. } = *config;
        Ok(Self {
            norm1: LayerNorm::new(width, EPS, &vb.pp("norm1"))?,
            among: CrossAttention::new(width, width, heads, &vb.pp("attn1"))?,
            norm2: LayerNorm::new(width, EPS, &vb.pp("norm2"))?,
            across: CrossAttention::new(width, context, heads, &vb.pp("attn2"))?,
            norm3: LayerNorm::new(width, EPS, &vb.pp("norm3"))?,
            widen: Linear::new(width, 8 * width, &vb.pp("ff.net.0.proj"))?,
            narrow: Linear::new(4 * width, width, &vb.pp("ff.net.2"))?,
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let own = self.norm1.forward(x)?;
        let x = (x + self.among.forward(&own, &own)?)?;
        let x = (&x + self.across.forward(&self.norm2.forward(&x)?, context)?)?;
        // Half of the wide numbers gate the others (Shazeer 2020), by the error function and not its approximation.
        let wide = self.widen.forward(&self.norm3.forward(&x)?)?;
        let half = wide.dim(D::Minus1)? / 2;
        let gate = vqlc_ops::tensor::gelu(&wide.narrow(D::Minus1, half, half)?, false)?;
        let gated = (wide.narrow(D::Minus1, 0, half)? * gate)?;
        &x + self.narrow.forward(&gated)?
    }
}
