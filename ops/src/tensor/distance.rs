//! The distance of LPIPS between feature maps.

use candle_core::{DType, Result, Tensor};

use super::Order;

/// Added to the norms that features are divided by.
const EPS: f64 = 1e-10;

/// How far the maps `a` are from the maps `b`, which both lie in `order`, `[batch]` (f32): the mean over positions of the sum over channels of
/// `weight * (a / |a| - b / |b|)^2`, `|x|` the norm over the channels (Zhang et al. 2018, equation 1). `weight` is `[c]` (f32).
/// Differentiable in `a` alone.
///
/// # Errors
/// Shapes that do not fit; a tensor operation's.
pub fn unit_distances(a: &Tensor, b: &Tensor, weight: &Tensor, order: Order) -> Result<Tensor> {
    let (b, weight) = (b.detach(), weight.detach());
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() && order == Order::ChannelsLast {
        return crate::cuda::unit_distances(a, &b, &weight);
    }
    let mut shape = [1; 4];
    shape[order.channels()] = weight.elem_count();
    let squares = (unit(a, order)? - unit(&b, order)?)?.sqr()?;
    let map = squares
        .broadcast_mul(&weight.reshape(&shape)?)?
        .sum(order.channels())?;
    map.flatten_from(1)?.mean(1)
}

/// Features divided by their norm over the channels, f32.
fn unit(features: &Tensor, order: Order) -> Result<Tensor> {
    let features = features.to_dtype(DType::F32)?;
    // The root of 0 has no finite gradient: where all channels are silent the square of EPS stands in, which changes no other norm.
    let squares = (features.sqr()?.sum_keepdim(order.channels())? + EPS * EPS)?;
    features.broadcast_div(&(squares.sqrt()? + EPS)?)
}
