//! From noise to data.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    Denoiser, NoiseSchedule,
    ddpm::{Jump, STEPS},
    flow,
};
use crate::{Error, Result};

/// The ways from noise to data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampler {
    /// Of noise predictors: step by step with new noise in each (Ho et al. 2020, algorithm 2, with the posterior's variance). Fewer than 1000
    /// steps are taken between the points that are left.
    Ddpm,
    /// Of noise predictors: with as much new noise as eta says (Song et al. 2021). It ends at what step 0 has left, not at the data.
    Ddim,
    /// Of velocity predictors: equal steps.
    Euler,
    /// Of velocity predictors: equal steps of second order, each of which asks the network twice.
    Heun,
}

/// How to sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The way.
    pub sampler: Sampler,
    /// How many steps, 1 to 1000.
    pub steps: usize,
    /// Of [`Sampler::Ddim`] alone: how much new noise there is, 0 (none) to 1 (as much as DDPM's). 0 with the others.
    pub eta: f64,
    /// s of guidance, see [`guided`]; 1 is none.
    pub guidance: f64,
}

impl Sampling {
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what, expected: &str, found: f64| {
            Err(Error::Argument {
                what,
                expected: expected.into(),
                found: found.to_string(),
            })
        };
        if !(1..=STEPS).contains(&self.steps) {
            return refuse("sampling steps", "1 to 1000", self.steps as f64);
        }
        if self.sampler != Sampler::Ddim && self.eta != 0.0 {
            return refuse("eta", "0 with this sampler", self.eta);
        }
        if !(0.0..=1.0).contains(&self.eta) {
            return refuse("eta", "0 to 1", self.eta);
        }
        if !self.guidance.is_finite() {
            return refuse("guidance", "a finite number", self.guidance);
        }
        Ok(())
    }
}

/// What `denoiser` says of `x` `[b, c, h, w]` with guidance s (Ho and Salimans 2022): `u + s (c - u)`, c what it says with `classes` `[b]`
/// (u32) and u with none; times `t` `[b]` (f32). One call with twice the rows, or without guidance (s = 1) one with those alone.
///
/// # Errors
/// The denoiser's.
pub fn guided(
    denoiser: &dyn Denoiser,
    x: &Tensor,
    t: &Tensor,
    classes: &Tensor,
    guidance: f64,
) -> candle_core::Result<Tensor> {
    if guidance == 1.0 {
        return denoiser.predict(x, t, classes);
    }
    let rows = x.dim(0)?;
    let none = Tensor::full(denoiser.null(), rows, x.device())?;
    let both = denoiser.predict(
        &Tensor::cat(&[x, x], 0)?,
        &Tensor::cat(&[t, t], 0)?,
        &Tensor::cat(&[classes, &none], 0)?,
    )?;
    let (with, without) = (both.narrow(0, 0, rows)?, both.narrow(0, rows, rows)?);
    &without + ((with - &without)? * guidance)?
}

/// Makes data out of the noise `start` `[b, c, h, w]` (f32), of `classes` `[b]` (u32): the same for the same noise. `noise` makes standard
/// normal numbers in the shape it is given, at the steps that add any. There are no gradients.
///
/// # Errors
/// [`Error::Argument`] for a `how` out of its ranges; the denoiser's and those of `noise`.
pub fn sample(
    denoiser: &dyn Denoiser,
    how: &Sampling,
    start: &Tensor,
    classes: &Tensor,
    mut noise: impl FnMut(&[usize]) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    how.check()?;
    let rows = start.dim(0)?;
    // Detached, or each step would keep what all before it computed.
    let ask = |x: &Tensor, t: f64| -> candle_core::Result<Tensor> {
        let t = Tensor::full(t as f32, rows, x.device())?;
        Ok(guided(denoiser, x, &t, classes, how.guidance)?.detach())
    };
    let mut x = start.detach();
    let schedule = NoiseSchedule::linear();
    let (eta, end) = match how.sampler {
        Sampler::Euler => return Ok(flow::euler(x, how.steps, ask)?),
        Sampler::Heun => return Ok(flow::heun(x, how.steps, ask)?),
        Sampler::Ddpm => (1.0, 1.0),
        Sampler::Ddim => (how.eta, schedule.alphas_cumprod()[0]),
    };
    for (step, jump) in schedule.way_back(how.steps, end) {
        let predicted = ask(&x, step as f64)?;
        x = back(&x, &predicted, jump, eta, &mut noise)?;
    }
    Ok(x)
}

/// One step back.
fn back(
    x: &Tensor,
    predicted: &Tensor,
    jump: Jump,
    eta: f64,
    noise: &mut impl FnMut(&[usize]) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let [latents, direction, deviation] = jump.factors(eta);
    let mean = ((x * latents)? + (predicted * direction)?)?;
    if deviation == 0.0 {
        return Ok(mean);
    }
    mean + (noise(x.dims())? * deviation)?
}
