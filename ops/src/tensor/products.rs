//! The products of a convolution on the CPU: which numbers are multiplied, and each pass for one picture or many.

use candle_core::{DType, Result, bail};
use rayon::prelude::*;

use crate::amx::{self, Amx};
use crate::conv_grad::{self, Batch};
use crate::lanes::Proven;
use crate::{Conv2d, ConvShape, Error, Input, Store};

/// What products are taken of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Products {
    /// The operands themselves.
    F32,
    /// Operands rounded to bf16.
    Bf16(Amx),
}

impl Products {
    /// As a `compute` dtype asks for.
    pub(super) fn of(compute: DType) -> Result<Self> {
        Ok(match compute {
            DType::F32 => Self::F32,
            DType::BF16 => match Amx::detect() {
                Some(amx) => Self::Bf16(amx),
                None => bail!("bf16 on the CPU: this processor or system has no AMX; use f32"),
            },
            other => bail!("conv2d on the CPU: expected compute f32 or bf16, got {other:?}"),
        })
    }

    /// The convolution of a batch `[pictures, inputs, height, width]`.
    pub(super) fn forward(
        self,
        shape: &ConvShape,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        batch: Batch,
    ) -> std::result::Result<Vec<f32>, Error> {
        let conv = self.convolution(shape, weight, bias)?;
        let (rows, columns) = batch.output(shape)?;
        let size = (batch.height, batch.width);
        let output = shape.outputs * rows * columns;
        let mut values = vec![0.0; batch.pictures * output];
        values
            .par_chunks_mut(output)
            .zip(x.par_chunks(shape.inputs * size.0 * size.1))
            .try_for_each(|(output, x)| conv.run(x, size, output))?;
        Ok(values)
    }

    /// A convolution to be applied to pictures one by one.
    pub(super) fn convolution(
        self,
        shape: &ConvShape,
        weight: &[f32],
        bias: &[f32],
    ) -> std::result::Result<Convolution, Error> {
        Ok(match self {
            Self::F32 => Convolution::F32(Conv2d::new(*shape, weight, bias)?),
            Self::Bf16(amx) => Convolution::Bf16(amx::Forward::new(amx, shape, weight, bias)?),
        })
    }

    /// The gradient of the input of a convolution, to be taken of pictures of the batch's size one by one.
    pub(super) fn at_input(
        self,
        shape: &ConvShape,
        weight: &[f32],
        batch: Batch,
    ) -> std::result::Result<AtInput, Error> {
        Ok(match self {
            Self::F32 => {
                let kernel = Proven::best();
                let gradient = conv_grad::InputGradient::new(kernel, shape, weight, batch)?;
                AtInput::F32(gradient)
            }
            Self::Bf16(amx) => AtInput::Bf16(amx::InputGradient::new(amx, shape, weight, batch)?),
        })
    }

    /// The gradient of the weight, from a batch and the gradient of what it became.
    pub(super) fn at_weight(
        self,
        shape: &ConvShape,
        x: &[f32],
        grad: &[f32],
        batch: Batch,
    ) -> std::result::Result<Vec<f32>, Error> {
        match self {
            Self::F32 => conv_grad::weight(Proven::best(), shape, x, grad, batch),
            Self::Bf16(amx) => amx::weight(amx, shape, x, grad, batch),
        }
    }
}

/// See [`Products::convolution`].
pub(super) enum Convolution {
    F32(Conv2d),
    Bf16(amx::Forward),
}

impl Convolution {
    pub(super) fn run(
        &self,
        x: &[f32],
        size: (usize, usize),
        output: &mut [f32],
    ) -> std::result::Result<(), Error> {
        match self {
            Self::F32(conv) => conv.run(Input::new(x, size.0, size.1), output, Store::Over),
            Self::Bf16(conv) => conv.run(x, size, output),
        }
    }
}

/// See [`Products::at_input`].
pub(super) enum AtInput {
    F32(conv_grad::InputGradient),
    Bf16(amx::InputGradient),
}

impl AtInput {
    pub(super) fn run(&self, grad: &[f32], result: &mut [f32]) -> std::result::Result<(), Error> {
        match self {
            Self::F32(gradient) => gradient.run(grad, result),
            Self::Bf16(gradient) => gradient.run(grad, result),
        }
    }

    /// Of a whole batch.
    pub(super) fn run_batch(
        &self,
        grad: &[f32],
        result: &mut [f32],
        pictures: usize,
    ) -> std::result::Result<(), Error> {
        let (from, to) = (grad.len() / pictures.max(1), result.len() / pictures.max(1));
        if from == 0 || to == 0 {
            return Ok(());
        }
        result
            .par_chunks_mut(to)
            .zip(grad.par_chunks(from))
            .try_for_each(|(result, grad)| self.run(grad, result))
    }
}
