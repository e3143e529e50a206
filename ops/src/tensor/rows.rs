//! Softmax, standardisation and GELU, with gradients, in one pass each.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use super::values::slice;
use crate::rows::{self, Rows};

/// `softmax(scale x)` over the last dimension of `x` `[.., rows, columns]` (f32). Where `causal`, the last row sees all columns, the one
/// before it one less, and so on. Differentiable.
///
/// # Errors
/// More rows than columns where `causal`; a tensor operation's.
pub fn softmax(x: &Tensor, scale: f64, causal: bool) -> Result<Tensor> {
    let (rows, columns) = (x.dim(D::Minus2)?, x.dim(D::Minus1)?);
    if causal && rows > columns {
        bail!("{rows} rows of {columns} columns: the first would see none");
    }
    x.contiguous()?.apply_op1(Op(Rows::Softmax {
        scale: scale as f32,
        causal: causal.then_some(rows),
    }))
}

/// `x` `[.., width]` (f32) less its mean over the last dimension, over the root of its biased variance + `eps`. Differentiable.
///
/// # Errors
/// A tensor operation's.
pub fn standardise(x: &Tensor, eps: f64) -> Result<Tensor> {
    let how = Rows::Standardise { eps: eps as f32 };
    x.contiguous()?.apply_op1(Op(how))
}

/// GELU (Hendrycks and Gimpel 2016) of each number of `x` (f32), by the error function or, where `tanh`, its usual approximation.
/// Differentiable.
///
/// # Errors
/// A tensor operation's.
pub fn gelu(x: &Tensor, tanh: bool) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Op(Rows::Gelu { tanh }))
}

struct Op(Rows);

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "vqlc-rows"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let mut y = vec![0.0; x.len()];
        rows::forward(self.0, last(layout), x, &mut y);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let y = crate::cuda::rows_forward(self.0, last(layout), (x, layout))?;
        Ok((y, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        Ok(Some(x.apply_op3_no_bwd(y, &grad, &Gradient(self.0))?))
    }
}

struct Gradient(Rows);

impl CustomOp3 for Gradient {
    fn name(&self) -> &'static str {
        "vqlc-rows-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, y) = (slice(x, x_layout)?, slice(y, y_layout)?);
        let mut grad = slice(grad, grad_layout)?.to_vec();
        rows::backward(self.0, last(x_layout), x, y, &mut grad);
        Ok((CpuStorage::F32(grad), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        y: &CudaStorage,
        y_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x, y, grad) = ((x, x_layout), (y, y_layout), (grad, grad_layout));
        let grad = crate::cuda::rows_backward(self.0, last(x_layout), x, y, grad)?;
        Ok((grad, x_layout.shape().clone()))
    }
}

/// Length of a row, at least 1.
fn last(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1).max(1)
}
