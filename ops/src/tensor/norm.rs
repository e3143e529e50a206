//! Normalisation.

use candle_core::{D, Result, Tensor};

/// Group normalisation of `x` `[b, c, ...]` (Wu and He 2018; biased variance) with `weight` and `bias` `[c]` (f32), followed by swish,
/// `x * sigmoid(x)`, where `swish` says so. Statistics are taken in f32 or better. Differentiable in all three.
///
/// # Errors
/// `groups` that does not divide the channels; a tensor operation's.
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    swish: bool,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::group_norm(x, weight, bias, groups, eps, swish);
    }
    let (batch, channels) = (x.dim(0)?, x.dim(1)?);
    let flat = x.reshape((batch, groups, ()))?;
    let centred = flat.broadcast_sub(&flat.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let unit = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    let y = unit
        .reshape((batch, channels, ()))?
        .broadcast_mul(&weight.reshape((1, channels, 1))?)?
        .broadcast_add(&bias.reshape((1, channels, 1))?)?
        .reshape(x.shape())?;
    if swish { y.silu() } else { Ok(y) }
}
