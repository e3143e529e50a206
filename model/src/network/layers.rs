//! The blocks that encoder and decoder are made of.

use std::sync::OnceLock;

use candle_core::{Error, Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use vqlc_ops::{
    ConvShape, GroupNorm, Scales,
    tensor::{self, Maps, Order, Residual, Window},
};

use super::attention::AttnBlock;
use super::fast::{self, Buffers, Map};
use crate::{VqganConfig, params::maps};

/// GroupNorm's epsilon in every published VQGAN.
const NORM_EPS: f64 = 1e-6;

/// A square convolution with bias.
pub(super) struct Conv {
    weight: Tensor,
    bias: Tensor,
    window: Window,
    maps: Maps,
    fast: Option<Packed>,
}

/// Weights packed for inference when they are first used: an encoder that is not asked for, or a decoder, costs nothing.
struct Packed {
    shape: ConvShape,
    conv: OnceLock<Result<fast::Conv>>,
}

impl Conv {
    /// New weights are drawn as PyTorch draws them, uniform within 1/sqrt(fan in).
    fn new(
        inputs: usize,
        outputs: usize,
        side: usize,
        window: Window,
        vb: VarBuilder,
    ) -> Result<Self> {
        let bound = 1.0 / ((inputs * side * side) as f64).sqrt();
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let weight = vb.get_with_hints((outputs, inputs, side, side), "weight", init)?;
        let bias = vb.get_with_hints(outputs, "bias", init)?;
        let fast = if fast::can_pack(&weight) && fast::can_pack(&bias) {
            Some(Packed {
                shape: ConvShape {
                    inputs,
                    outputs,
                    side,
                    stride: window.stride,
                    padding: window.padding,
                },
                conv: OnceLock::new(),
            })
        } else {
            None
        };
        let maps = maps(&vb)?;
        Ok(Self {
            weight: maps.prepare(&weight)?,
            bias,
            window,
            maps,
            fast,
        })
    }
}

impl Module for Conv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        tensor::conv2d(x, &self.weight, Some(&self.bias), self.window, self.maps)
    }
}

impl Conv {
    /// What it makes.
    pub(super) fn maps(&self) -> Maps {
        self.maps
    }

    /// Whether its weights can be packed: then those of the whole network can, and inference need not make tensors.
    pub(super) fn can_infer(&self) -> bool {
        self.fast.is_some()
    }

    /// The packed weights.
    pub(super) fn packed(&self) -> Result<&fast::Conv> {
        let packed = self.fast.as_ref().ok_or_else(not_packed)?;
        // Packing never waits for a thread pool, so no task that waits here is one that it waits for.
        let pack = || fast::Conv::new(packed.shape, &self.weight, &self.bias);
        let conv = packed.conv.get_or_init(pack).as_ref();
        conv.map_err(|error| Error::Msg(error.to_string()))
    }
}

fn not_packed() -> Error {
    Error::Msg("weights on a device or to be trained are not packed for inference".into())
}

/// A 3x3 convolution that keeps the size.
pub(super) fn conv3(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Conv> {
    Conv::new(inputs, outputs, 3, Window::same(1), vb)
}

/// A 1x1 convolution.
pub(super) fn conv1(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Conv> {
    Conv::new(inputs, outputs, 1, Window::same(0), vb)
}

/// Group normalisation, alone or followed by swish, `x * sigmoid(x)`.
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    swish: bool,
    order: Order,
    fast: Option<GroupNorm>,
}

impl Norm {
    pub(super) fn new(
        cfg: &VqganConfig,
        channels: usize,
        swish: bool,
        vb: VarBuilder,
    ) -> Result<Self> {
        let groups = cfg.groups(channels);
        let weight = vb.get_with_hints(channels, "weight", Init::Const(1.0))?;
        let bias = vb.get_with_hints(channels, "bias", Init::Const(0.0))?;
        let fast = if fast::can_pack(&weight) && fast::can_pack(&bias) {
            let (weight, bias) = (fast::values(&weight)?, fast::values(&bias)?);
            let packed = GroupNorm::new(groups, NORM_EPS, &weight, &bias, swish);
            Some(packed.map_err(Error::wrap)?)
        } else {
            None
        };
        Ok(Self {
            weight,
            bias,
            groups,
            swish,
            order: maps(&vb)?.order,
            fast,
        })
    }
}

impl Module for Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (&self.weight, &self.bias);
        let (groups, swish) = (self.groups, self.swish);
        tensor::group_norm(x, weight, bias, groups, NORM_EPS, swish, self.order)
    }
}

impl Norm {
    /// What it does to the values of a map.
    pub(super) fn scales(&self, map: &Map) -> Result<Scales> {
        self.packed()?.scales(&map.values).map_err(Error::wrap)
    }

    /// The packed weights.
    pub(super) fn packed(&self) -> Result<&GroupNorm> {
        self.fast.as_ref().ok_or_else(not_packed)
    }
}

/// `shortcut(x) + conv2(swish(norm2(conv1(swish(norm1(x))))))`; the shortcut is 1x1 when the channel count changes.
pub(super) struct ResBlock {
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl ResBlock {
    pub(super) fn new(
        cfg: &VqganConfig,
        inputs: usize,
        outputs: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        Ok(Self {
            norm1: Norm::new(cfg, inputs, true, vb.pp("norm1"))?,
            conv1: conv3(inputs, outputs, vb.pp("conv1"))?,
            norm2: Norm::new(cfg, outputs, true, vb.pp("norm2"))?,
            conv2: conv3(outputs, outputs, vb.pp("conv2"))?,
            shortcut: (inputs != outputs)
                .then(|| conv1(inputs, outputs, vb.pp("nin_shortcut")))
                .transpose()?,
        })
    }
}

impl ResBlock {
    /// Inference; the result takes the place of `x`.
    pub(super) fn infer(&self, mut x: Map, buffers: &Buffers) -> Result<Map> {
        let scales = self.norm1.scales(&x)?;
        let h = (self.conv1.packed()?).map(x.input().normalised(&scales), buffers)?;
        let scales = self.norm2.scales(&h)?;
        if let Some(shortcut) = &self.shortcut {
            let short = shortcut.packed()?.map(x.input(), buffers)?;
            buffers.give(std::mem::replace(&mut x, short));
        }
        let conv2 = self.conv2.packed()?;
        conv2.add_to(&mut x, h.input().normalised(&scales))?;
        buffers.give(h);
        Ok(x)
    }
}

impl Module for ResBlock {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        tensor::residual(
            x,
            &Residual {
                norm1: [&self.norm1.weight, &self.norm1.bias],
                conv1: [&self.conv1.weight, &self.conv1.bias],
                norm2: [&self.norm2.weight, &self.norm2.bias],
                conv2: [&self.conv2.weight, &self.conv2.bias],
                shortcut: (self.shortcut.as_ref()).map(|conv| [&conv.weight, &conv.bias]),
                groups: [self.norm1.groups, self.norm2.groups],
                eps: NORM_EPS,
                maps: self.conv1.maps,
            },
        )
    }
}

/// Halves the size: zeros right and bottom by one, 3x3 with stride 2.
pub(super) struct Downsample(Conv);

impl Downsample {
    pub(super) fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        let window = Window {
            stride: 2,
            padding: (0, 1),
        };
        Conv::new(channels, channels, 3, window, vb.pp("conv")).map(Self)
    }
}

impl Downsample {
    /// Inference.
    pub(super) fn infer(&self, x: Map, buffers: &Buffers) -> Result<Map> {
        let half = self.0.packed()?.map(x.input(), buffers)?;
        buffers.give(x);
        Ok(half)
    }
}

impl Module for Downsample {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}

/// Doubles the size: nearest neighbour, then 3x3.
pub(super) struct Upsample(Conv);

impl Upsample {
    pub(super) fn new(channels: usize, vb: VarBuilder) -> Result<Self> {
        conv3(channels, channels, vb.pp("conv")).map(Self)
    }
}

impl Upsample {
    /// Inference.
    pub(super) fn infer(&self, x: Map, buffers: &Buffers) -> Result<Map> {
        let double = self.0.packed()?.map(x.input().doubled(), buffers)?;
        buffers.give(x);
        Ok(double)
    }
}

impl Module for Upsample {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let order = self.0.maps.order;
        self.0.forward(&tensor::upsample2(x, order)?)
    }
}

/// The middle of both halves: residual block, attention, residual block.
pub(super) struct Middle {
    block_1: ResBlock,
    attn_1: AttnBlock,
    block_2: ResBlock,
}

impl Middle {
    pub(super) fn new(cfg: &VqganConfig, channels: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            block_1: ResBlock::new(cfg, channels, channels, vb.pp("block_1"))?,
            attn_1: AttnBlock::new(cfg, channels, vb.pp("attn_1"))?,
            block_2: ResBlock::new(cfg, channels, channels, vb.pp("block_2"))?,
        })
    }
}

impl Middle {
    /// Inference; the result takes the place of `x`.
    pub(super) fn infer(&self, x: Map, buffers: &Buffers) -> Result<Map> {
        let x = self.block_1.infer(x, buffers)?;
        let x = self.attn_1.infer(x, buffers)?;
        self.block_2.infer(x, buffers)
    }
}

impl Module for Middle {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.block_2
            .forward(&self.attn_1.forward(&self.block_1.forward(x)?)?)
    }
}

/// The residual blocks of one level, each followed by attention where the level has it.
pub(super) struct Level(Vec<(ResBlock, Option<AttnBlock>)>);

impl Level {
    /// `blocks` blocks from `inputs` to `outputs` channels under `vb.block.N` and `vb.attn.N`.
    pub(super) fn new(
        cfg: &VqganConfig,
        level: usize,
        blocks: usize,
        inputs: usize,
        outputs: usize,
        vb: &VarBuilder,
    ) -> Result<Self> {
        (0..blocks)
            .map(|n| {
                let inputs = if n == 0 { inputs } else { outputs };
                let block = ResBlock::new(cfg, inputs, outputs, vb.pp("block").pp(n))?;
                let attn = cfg
                    .has_attention(level)
                    .then(|| AttnBlock::new(cfg, outputs, vb.pp("attn").pp(n)))
                    .transpose()?;
                Ok((block, attn))
            })
            .collect::<Result<_>>()
            .map(Self)
    }
}

impl Level {
    /// Inference; the result takes the place of `x`.
    pub(super) fn infer(&self, x: Map, buffers: &Buffers) -> Result<Map> {
        self.0.iter().try_fold(x, |x, (block, attn)| {
            let x = block.infer(x, buffers)?;
            match attn {
                Some(attn) => attn.infer(x, buffers),
                None => Ok(x),
            }
        })
    }
}

impl Module for Level {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.iter().try_fold(x.clone(), |x, (block, attn)| {
            let x = block.forward(&x)?;
            attn.as_ref().map_or(Ok(x.clone()), |attn| attn.forward(&x))
        })
    }
}
