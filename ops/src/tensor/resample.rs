//! Changing the size of a map. candle's own pooling and upsampling have wrong gradients, so these are made of reshapes.

use candle_core::{Result, Tensor};

/// Doubles height and width of `x` `[b, c, h, w]` by repeating. Differentiable.
///
/// # Errors
/// A tensor operation's.
pub fn upsample2(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::small(x, crate::cuda::Small::Upsample2);
    }
    let (batch, channels, height, width) = x.dims4()?;
    x.reshape((batch, channels, height, 1, width, 1))?
        .broadcast_as((batch, channels, height, 2, width, 2))?
        .contiguous()?
        .reshape((batch, channels, 2 * height, 2 * width))
}

/// The greatest of each 2x2 window of `x` `[b, c, h, w]`; an odd last row or column is dropped, as PyTorch does.
/// Differentiable; the gradient goes to the greatest.
///
/// # Errors
/// A tensor operation's.
pub fn max_pool2(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::small(x, crate::cuda::Small::MaxPool2);
    }
    let (batch, channels, height, width) = x.dims4()?;
    let (rows, columns) = (height / 2, width / 2);
    x.narrow(2, 0, 2 * rows)?
        .narrow(3, 0, 2 * columns)?
        .reshape((batch, channels, rows, 2, columns, 2))?
        .max(5)?
        .max(3)
}
