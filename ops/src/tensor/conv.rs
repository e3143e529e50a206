//! Convolution.

use candle_core::{D, DType, Result, Tensor};

/// Where a square convolution's kernel is laid on its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Step from output to output.
    pub stride: usize,
    /// Rows and columns of zeros before (above, left) and after (below, right) the input.
    pub padding: (usize, usize),
}

impl Window {
    /// Stride 1 and `padding` zeros on every side.
    #[must_use]
    pub fn same(padding: usize) -> Self {
        Self {
            stride: 1,
            padding: (padding, padding),
        }
    }
}

/// Convolves `x` `[b, inputs, h, w]` with `weight` `[outputs, inputs, side, side]` (f32) and `bias` `[outputs]` (f32).
/// Differentiable in all three. On the CPU `x` is f32, and `compute` may be BF16 where [`bf16_on_cpu`](super::bf16_on_cpu).
///
/// # Errors
/// Shapes that do not fit; BF16 on a CPU that cannot; a tensor operation's.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
    compute: DType,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::conv2d(x, weight, bias, window, 1, compute);
    }
    if x.device().is_cpu() {
        return super::conv_cpu::conv2d(x, weight, bias, window, compute);
    }
    plain(x, weight, bias, window, 1)
}

pub(super) fn plain(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
    groups: usize,
) -> Result<Tensor> {
    let (before, after) = window.padding;
    let x = x
        .pad_with_zeros(D::Minus1, before, after)?
        .pad_with_zeros(D::Minus2, before, after)?;
    let y = x.conv2d(weight, 0, window.stride, 1, groups)?;
    match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
        None => Ok(y),
    }
}
