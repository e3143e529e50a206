//! Convolution.

use candle_core::{D, Result, Tensor};

use super::Maps;

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

/// Convolves `x`, maps of `inputs` channels that lie as `maps` says, with `weight` `[outputs, inputs, side, side]` (f32, or
/// [prepared](Maps::prepare)) and `bias` `[outputs]` (f32). Differentiable in all three. On the CPU `x` is f32, and `maps.compute` may
/// be BF16 where [`bf16_on_cpu`](super::bf16_on_cpu).
///
/// # Errors
/// Shapes that do not fit; BF16 on a CPU that cannot; a tensor operation's.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
    maps: Maps,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::conv2d(x, weight, bias, window, 1, maps);
    }
    maps.order.around(x, |x| {
        if x.device().is_cpu() {
            super::conv_cpu::conv2d(x, weight, bias, window, maps.compute)
        } else {
            plain(x, weight, bias, window, 1)
        }
    })
}

/// How many times in this process cuDNN did not have a convolution in bf16 with channels last, which then went round by channels first:
/// right, and slower. None without a GPU.
#[must_use]
pub fn channels_last_detours() -> usize {
    #[cfg(feature = "cuda")]
    return crate::cuda::detours();
    #[cfg(not(feature = "cuda"))]
    0
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
