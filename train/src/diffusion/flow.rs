//! Straight ways from noise to data (Ma et al. 2024, SiT: the linear path with velocity prediction).

use candle_core::{Result, Tensor};

use super::{Denoiser, per_row};

/// Where data `x` `[b, ..]` is at `times`, one for each row, 0 (all noise) to 1 (all data): `t x + (1 - t) noise`, noise in the shape of `x`.
///
/// # Errors
/// Not as many times as there are rows.
pub fn path(x: &Tensor, noise: &Tensor, times: &[f32]) -> Result<Tensor> {
    let data = per_row(times.iter().copied(), x)?;
    let noisy = per_row(times.iter().map(|t| 1.0 - t), x)?;
    x.broadcast_mul(&data)? + noise.broadcast_mul(&noisy)?
}

/// The mean square of what `denoiser` takes the velocity for less what it is, `x - noise` (Ma et al. 2024, section 2.2), a scalar: data `x`
/// and `noise` `[b, c, h, w]`, `times` from 0 to 1, `classes` `[b]` (u32).
///
/// # Errors
/// As [`path`]; the denoiser's.
pub fn loss(
    denoiser: &dyn Denoiser,
    x: &Tensor,
    noise: &Tensor,
    times: &[f32],
    classes: &Tensor,
) -> Result<Tensor> {
    let t = Tensor::new(times, x.device())?;
    let velocity = denoiser.predict(&path(x, noise, times)?, &t, classes)?;
    (velocity - (x - noise)?)?.sqr()?.mean_all()
}

/// From `x` at time 0 to time 1 in `count` equal steps, along `velocity` of a place and a time.
pub(super) fn euler(
    mut x: Tensor,
    count: usize,
    velocity: impl Fn(&Tensor, f64) -> Result<Tensor>,
) -> Result<Tensor> {
    let step = 1.0 / count as f64;
    for i in 0..count {
        let slope = velocity(&x, i as f64 * step)?;
        x = (x + (slope * step)?)?;
    }
    Ok(x)
}

/// As [`euler`], of second order: along the mean of the velocities at both ends of an Euler step.
pub(super) fn heun(
    mut x: Tensor,
    count: usize,
    velocity: impl Fn(&Tensor, f64) -> Result<Tensor>,
) -> Result<Tensor> {
    let step = 1.0 / count as f64;
    for i in 0..count {
        let first = velocity(&x, i as f64 * step)?;
        let there = (&x + (&first * step)?)?;
        let second = velocity(&there, (i + 1) as f64 * step)?;
        x = (x + ((first + second)? * (0.5 * step))?)?;
    }
    Ok(x)
}
