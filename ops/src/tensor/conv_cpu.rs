//! Convolution on the CPU as an operation of candle's, forward and backward.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp3, DType, Error, Layout, Result, Shape, Storage, Tensor, bail,
};
use rayon::prelude::*;

use super::Window;
use crate::amx::{self, Amx};
use crate::conv_grad::{self, Batch};
use crate::lanes::Proven;
use crate::{Conv2d, ConvShape};

/// Whether operations on the CPU can compute in bf16 (`compute` of [`conv2d`](super::conv2d)): the processor has AMX with bf16, and
/// the system lets this process use it.
#[must_use]
pub fn bf16_on_cpu() -> bool {
    Amx::detect().is_some()
}

/// As [`conv2d`](super::conv2d), on the CPU: `x` is f32.
pub(super) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
    compute: DType,
) -> Result<Tensor> {
    let products = match compute {
        DType::F32 => Products::F32,
        DType::BF16 => match Amx::detect() {
            Some(amx) => Products::Bf16(amx),
            None => bail!("bf16 on the CPU: this processor or system has no AMX; use f32"),
        },
        other => bail!("conv2d on the CPU: expected compute f32 or bf16, got {other:?}"),
    };
    let (_, inputs, _, _) = x.dims4()?;
    let (outputs, expected, side, columns) = weight.dims4()?;
    if inputs != expected || side != columns {
        bail!(
            "conv2d: expected a weight [outputs, {inputs}, side, side], got {:?}",
            weight.dims()
        );
    }
    if side == 0 || window.stride == 0 {
        bail!("conv2d: expected a kernel and a stride of at least 1");
    }
    let shape = ConvShape {
        inputs,
        outputs,
        side,
        stride: window.stride,
        padding: window.padding,
    };
    let none;
    let bias = match bias {
        Some(bias) => bias,
        None => {
            none = Tensor::zeros(outputs, DType::F32, x.device())?;
            &none
        }
    };
    x.contiguous()?.apply_op3(
        &weight.contiguous()?,
        &bias.contiguous()?,
        Conv { shape, products },
    )
}

/// What products are taken of.
#[derive(Clone, Copy, Debug)]
enum Products {
    /// The operands themselves.
    F32,
    /// Operands rounded to bf16.
    Bf16(Amx),
}

#[derive(Clone, Copy, Debug)]
struct Conv {
    shape: ConvShape,
    products: Products,
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (pictures, _, height, width) = x_layout.shape().dims4()?;
        let (Some(rows), Some(columns)) = (self.shape.output(height), self.shape.output(width))
        else {
            return Err(Error::wrap(crate::Error::Empty { what: "output" }));
        };
        let batch = Batch {
            pictures,
            height,
            width,
        };
        let output = self.forward(
            values(x, x_layout)?,
            values(weight, weight_layout)?,
            values(bias, bias_layout)?,
            batch,
            rows * columns,
        );
        let shape = (pictures, self.shape.outputs, rows, columns);
        Ok((CpuStorage::F32(output.map_err(Error::wrap)?), shape.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (pictures, _, height, width) = x.dims4()?;
        let (_, _, rows, columns) = result.dims4()?;
        let batch = Batch {
            pictures,
            height,
            width,
        };
        let grad = grad.contiguous()?;
        let like = |gradient: Vec<f32>, of: &Tensor| {
            Tensor::from_vec(gradient, of.shape(), of.device()).map(Some)
        };
        let (mut to_x, mut to_weight, mut to_bias) = (None, None, None);
        if x.track_op() {
            let gradient = with(weight, &grad, |weight, grad| {
                self.input_gradient(weight, grad, batch)
            })?;
            to_x = like(gradient, x)?;
        }
        if weight.track_op() {
            let gradient = with(x, &grad, |x, grad| self.weight_gradient(x, grad, batch))?;
            to_weight = like(gradient, weight)?;
        }
        if bias.track_op() {
            let gradient = with(&grad, &grad, |grad, _| {
                Ok(conv_grad::bias(grad, self.shape.outputs, rows * columns))
            })?;
            to_bias = like(gradient, bias)?;
        }
        Ok((to_x, to_weight, to_bias))
    }
}

impl Conv {
    fn forward(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        batch: Batch,
        positions: usize,
    ) -> std::result::Result<Vec<f32>, crate::Error> {
        let shape = self.shape;
        let (input, output) = (
            shape.inputs * batch.height * batch.width,
            shape.outputs * positions,
        );
        match self.products {
            Products::F32 => {
                let conv = Conv2d::new(shape, weight, bias)?;
                let mut values = vec![0.0; batch.pictures * output];
                values
                    .par_chunks_mut(output)
                    .zip(x.par_chunks(input))
                    .try_for_each(|(output, x)| conv.run(x, batch.height, batch.width, output))?;
                Ok(values)
            }
            Products::Bf16(amx) => amx::forward(amx, &shape, weight, bias, x, batch),
        }
    }

    fn input_gradient(
        &self,
        weight: &[f32],
        grad: &[f32],
        batch: Batch,
    ) -> std::result::Result<Vec<f32>, crate::Error> {
        match self.products {
            Products::F32 => conv_grad::input(Proven::best(), &self.shape, weight, grad, batch),
            Products::Bf16(amx) => amx::input(amx, &self.shape, weight, grad, batch),
        }
    }

    fn weight_gradient(
        &self,
        x: &[f32],
        grad: &[f32],
        batch: Batch,
    ) -> std::result::Result<Vec<f32>, crate::Error> {
        match self.products {
            Products::F32 => conv_grad::weight(Proven::best(), &self.shape, x, grad, batch),
            Products::Bf16(amx) => amx::weight(amx, &self.shape, x, grad, batch),
        }
    }
}

/// The numbers of a contiguous f32 tensor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else {
        return Err(Error::UnsupportedDTypeForOp(storage.dtype(), "conv2d").bt());
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => Err(Error::RequiresContiguous { op: "conv2d" }.bt()),
    }
}

/// Computes from the numbers of two tensors on the CPU.
fn with(
    a: &Tensor,
    b: &Tensor,
    compute: impl FnOnce(&[f32], &[f32]) -> std::result::Result<Vec<f32>, crate::Error>,
) -> Result<Vec<f32>> {
    let ((a, a_layout), (b, b_layout)) = (a.storage_and_layout(), b.storage_and_layout());
    let (Storage::Cpu(a), Storage::Cpu(b)) = (&*a, &*b) else {
        bail!("conv2d: expected tensors on the CPU");
    };
    compute(values(a, a_layout)?, values(b, b_layout)?).map_err(Error::wrap)
}
