//! The adversarial losses, on logits of any shape. Lim and Ye 2017, as VQGAN uses them.

use candle_core::{DType, Tensor};

use crate::Result;

/// `(mean(max(0, 1 - real)) + mean(max(0, 1 + made))) / 2`, an f32 scalar: what the discriminator lowers.
///
/// # Errors
/// A tensor operation's.
pub fn discriminator(real: &Tensor, made: &Tensor) -> Result<Tensor> {
    let real = (1.0 - real.to_dtype(DType::F32)?)?.relu()?.mean_all()?;
    let made = (made.to_dtype(DType::F32)? + 1.0)?.relu()?.mean_all()?;
    Ok(((real + made)? * 0.5)?)
}

/// `-mean(made)`, an f32 scalar: what the generator lowers.
///
/// # Errors
/// A tensor operation's.
pub fn generator(made: &Tensor) -> Result<Tensor> {
    Ok(made.to_dtype(DType::F32)?.mean_all()?.neg()?)
}
