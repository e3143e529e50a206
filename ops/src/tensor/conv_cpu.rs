//! Convolution on the CPU as an operation of candle's, forward and backward.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp3, DType, Error, Layout, Result, Shape, Storage, Tensor, bail,
};

use super::Window;
use super::products::Products;
use crate::ConvShape;
use crate::amx::Amx;
use crate::conv_grad::{self, Batch};

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
    let products = Products::of(compute)?;
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
        let batch = Batch {
            pictures,
            height,
            width,
        };
        let (rows, columns) = batch.output(&self.shape).map_err(Error::wrap)?;
        let (x, weight) = (values(x, x_layout)?, values(weight, weight_layout)?);
        let bias = values(bias, bias_layout)?;
        let output = self.products.forward(&self.shape, x, weight, bias, batch);
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
                let at_input = self.products.at_input(&self.shape, weight, batch)?;
                let mut result = vec![0.0; x.elem_count()];
                at_input.run_batch(grad, &mut result, pictures)?;
                Ok(result)
            })?;
            to_x = like(gradient, x)?;
        }
        if weight.track_op() {
            let gradient = with(x, &grad, |x, grad| {
                self.products.at_weight(&self.shape, x, grad, batch)
            })?;
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
