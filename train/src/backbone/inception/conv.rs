//! A convolution with its batch normalisation and rectifier.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;
use vqlc_ops::tensor::{Maps, Window, conv2d, relu};

use crate::backbone::fold::folded;

/// Added to the variance in the batch normalisations.
const EPS: f64 = 1e-3;

/// See the module.
#[derive(Debug)]
pub(super) struct Conv {
    weight: Tensor,
    bias: Tensor,
    window: Window,
    /// Of a kernel that is a line: which axis it lies along (2 down, 3 across) and how long it is.
    line: Option<(usize, usize)>,
}

impl Conv {
    /// `(inputs, outputs, side)`
    pub(super) fn square(
        vb: &VarBuilder,
        (inputs, outputs, side): (usize, usize, usize),
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let (weight, bias) = folded(vb, "conv", "bn", [outputs, inputs, side, side], EPS)?;
        let window = Window {
            stride,
            ..Window::same(padding)
        };
        Ok(Self {
            weight,
            bias,
            window,
            line: None,
        })
    }

    /// A kernel of 1 x `length`, padded so that the size stays; or of `length` x 1, if it is to lie `down`.
    pub(super) fn line(
        vb: &VarBuilder,
        inputs: usize,
        outputs: usize,
        length: usize,
        down: bool,
    ) -> Result<Self> {
        let (rows, columns) = if down { (length, 1) } else { (1, length) };
        let (weight, bias) = folded(vb, "conv", "bn", [outputs, inputs, rows, columns], EPS)?;
        // As a product with the picture's copies, shifted to one place of the kernel after the other.
        let weight = weight
            .reshape((outputs, inputs, length))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((outputs, length * inputs, 1, 1))?;
        Ok(Self {
            weight,
            bias,
            window: Window::same(0),
            line: Some((if down { 2 } else { 3 }, length)),
        })
    }

    /// `[b, inputs, h, w]` to `[b, outputs, h', w']`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let shifted;
        let x = match self.line {
            None => x,
            Some((axis, length)) => {
                let padded = x.pad_with_zeros(axis, length / 2, length / 2)?;
                let copies: Vec<Tensor> = (0..length)
                    .map(|at| padded.narrow(axis, at, x.dim(axis)?))
                    .collect::<Result<_>>()?;
                shifted = Tensor::cat(&copies, 1)?;
                &shifted
            }
        };
        let maps = Maps::channels_first(DType::F32);
        relu(&conv2d(
            x,
            &self.weight,
            Some(&self.bias),
            self.window,
            maps,
        )?)
    }
}
