//! The residual block that is told the time.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use vqlc_ops::tensor;

use super::{
    UnetConfig,
    layers::{Conv, GroupNorm},
};
use crate::nn::Linear;

/// `shortcut(x) + conv2(swish(norm2(conv1(swish(norm1(x))) + linear(time))))`; the shortcut is 1x1 where the channels change.
#[derive(Debug)]
pub(super) struct ResidualBlock {
    norm1: GroupNorm,
    conv1: Conv,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl ResidualBlock {
    pub(super) fn new(
        config: &UnetConfig,
        inputs: usize,
        outputs: usize,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let groups = config.groups;
        Ok(Self {
            norm1: GroupNorm::swish(groups, inputs, &vb.pp("in_layers.0"))?,
            conv1: Conv::same(inputs, outputs, 3, &vb.pp("in_layers.2"))?,
            time: Linear::new(4 * config.base, outputs, &vb.pp("emb_layers.1"))?,
            norm2: GroupNorm::swish(groups, outputs, &vb.pp("out_layers.0"))?,
            conv2: Conv::zero(outputs, outputs, 3, &vb.pp("out_layers.3"))?,
            shortcut: (inputs != outputs)
                .then(|| Conv::same(inputs, outputs, 1, &vb.pp("skip_connection")))
                .transpose()?,
        })
    }

    /// Maps `x` of `inputs` channels at `time` `[b, 4 base]`; gives maps of `outputs` channels.
    pub(super) fn forward(&self, x: &Tensor, time: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x)?)?;
        let time = self.time.forward(time)?.to_dtype(h.dtype())?;
        let [rows, columns] = self.conv1.order().plane();
        let h = h.broadcast_add(&time.unsqueeze(rows)?.unsqueeze(columns)?)?;
        let h = self.conv2.forward(&self.norm2.forward(&h)?)?;
        match &self.shortcut {
            Some(shortcut) => tensor::add(&shortcut.forward(x)?, &h),
            None => tensor::add(x, &h),
        }
    }
}
