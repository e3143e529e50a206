//! How different two pictures look to EfficientNet-Lite0: a perceptual loss where VGG weights are not at hand, and a metric.
//!
//! Of each picture the outputs of the block groups [`STAGES`] are taken, and at every position the vector over channels is brought to
//! unit length, as LPIPS does (Zhang et al. 2018) but without learned weights:
//!
//! ```text
//! u_s(x) = F_s(x) / sqrt(sum over channels of F_s(x)^2 + 1e-10)
//! d(x, y) = mean over stages s of (mean over positions of (sum over channels of (u_s(x) - u_s(y))^2))
//! ```
//!
//! So it lies in [0, 4], and is 0 for equal pictures. It is not LPIPS, and is never reported as such.

use candle_core::{DType, Tensor};

use crate::{Result, backbone::EfficientNet};

/// The block groups compared: strides 2, 4, 8, 16, 16.
pub const STAGES: [usize; 5] = [0, 1, 2, 3, 4];

/// The distance d for each pair of pictures: `a` and `b` are `[b, 3, h, w]` in [-1, 1], the result is `[b]`. Gradients flow to `a`
/// and `b`; hand in the target detached.
///
/// # Errors
/// Shapes that differ; a tensor operation's.
pub fn perceptual_distances(network: &EfficientNet, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let last = STAGES[STAGES.len() - 1];
    let stages = |x: &Tensor| network.stages(&input(x)?, last);
    let (a, b) = (stages(a)?, stages(b)?);
    let mut sum = None;
    for stage in STAGES {
        let difference = (unit(&a[stage])? - unit(&b[stage])?)?;
        let distance = difference.sqr()?.sum(1)?.flatten_from(1)?.mean(1)?;
        sum = Some(match sum {
            None => distance,
            Some(sum) => (sum + distance)?,
        });
    }
    let sum = sum.ok_or_else(|| candle_core::Error::Msg("no stages".into()))?;
    Ok((sum / STAGES.len() as f64)?)
}

/// The mean over a batch of the distances between `pictures` and `target`, a scalar. No gradient flows to `target`.
///
/// # Errors
/// As [`perceptual_distances`].
pub fn perceptual_loss(
    network: &EfficientNet,
    pictures: &Tensor,
    target: &Tensor,
) -> Result<Tensor> {
    Ok(perceptual_distances(network, pictures, &target.detach())?.mean_all()?)
}

/// Values in [-1, 1] to `(v - 127) / 128` of `v` in [0, 255].
fn input(x: &Tensor) -> candle_core::Result<Tensor> {
    x.affine(127.5 / 128.0, 0.5 / 128.0)
}

fn unit(features: &Tensor) -> candle_core::Result<Tensor> {
    let features = features.to_dtype(DType::F32)?;
    let length = (features.sqr()?.sum_keepdim(1)? + 1e-10)?.sqrt()?;
    features.broadcast_div(&length)
}
