//! Noise that a thousand steps add (Ho et al. 2020), and ways back (theirs; Song et al. 2021, DDIM).

use candle_core::{Result, Tensor};

use super::{Denoiser, per_row};

/// Steps that the noise is added in.
pub const STEPS: usize = 1000;

/// How much of the data is left after each step: the product of 1 - beta up to there, beta going evenly from 1e-4 to 0.02 (Ho et al. 2020,
/// section 4).
#[derive(Clone, Debug)]
pub struct NoiseSchedule(Vec<f64>);

impl NoiseSchedule {
    /// The schedule; there is this one.
    pub fn linear() -> Self {
        let (first, last) = (1e-4, 0.02);
        let by = (last - first) / (STEPS - 1) as f64;
        let mut left = 1.0;
        let left = (0..STEPS).map(|step| {
            left *= 1.0 - (first + step as f64 * by);
            left
        });
        Self(left.collect())
    }

    /// What is left of the variance of the data after steps 0 to 999.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.0
    }

    /// Data `x` `[b, ..]` after `steps`, one for each row: `sqrt(a) x + sqrt(1 - a) noise`, noise in the shape of `x` (Ho et al. 2020,
    /// equation 4).
    ///
    /// # Errors
    /// Steps past 999; not as many as there are rows.
    pub fn noised(&self, x: &Tensor, noise: &Tensor, steps: &[u32]) -> Result<Tensor> {
        let left: Vec<f64> = steps
            .iter()
            .map(|&step| match self.0.get(step as usize) {
                Some(&left) => Ok(left),
                None => candle_core::bail!("step {step} of {STEPS}"),
            })
            .collect::<Result<_>>()?;
        let data = per_row(left.iter().map(|a| a.sqrt() as f32), x)?;
        let noisy = per_row(left.iter().map(|a| (1.0 - a).sqrt() as f32), x)?;
        x.broadcast_mul(&data)? + noise.broadcast_mul(&noisy)?
    }

    /// The mean square of what `denoiser` takes the noise for less what it is (Ho et al. 2020, equation 14), a scalar: data `x` and `noise`
    /// `[b, c, h, w]`, `steps` and `classes` `[b]` (u32).
    ///
    /// # Errors
    /// As [`Self::noised`]; the denoiser's.
    pub fn loss(
        &self,
        denoiser: &dyn Denoiser,
        x: &Tensor,
        noise: &Tensor,
        steps: &[u32],
        classes: &Tensor,
    ) -> Result<Tensor> {
        let noised = self.noised(x, noise, steps)?;
        let t: Vec<f32> = steps.iter().map(|&step| step as f32).collect();
        let predicted = denoiser.predict(&noised, &Tensor::new(t, x.device())?, classes)?;
        (predicted - noise)?.sqr()?.mean_all()
    }

    /// The way back in `count` steps (1 to [`STEPS`]), from the noisiest on: each step's number and what it goes from and to. Numbers are
    /// multiples of `STEPS / count`, each rounded down, so that the last is 0; `end` is what is left after it.
    pub(super) fn way_back(&self, count: usize, end: f64) -> impl Iterator<Item = (usize, Jump)> {
        let step = move |i: usize| i * STEPS / count;
        (0..count).rev().map(move |i| {
            let to = match i {
                0 => end,
                _ => self.0[step(i - 1)],
            };
            let from = self.0[step(i)];
            (step(i), Jump { from, to })
        })
    }
}

/// A step back, between two points of the schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jump {
    from: f64,
    to: f64,
}

impl Jump {
    /// What to multiply latents, predicted noise and new noise by (Song et al. 2021, equations 12 and 16). `eta` of 1 is the posterior of Ho et
    /// al. 2020 (equations 6 and 7), of 0 adds no noise.
    pub(super) fn factors(self, eta: f64) -> [f64; 3] {
        let Self { from, to } = self;
        let variance = (1.0 - to) / (1.0 - from) * (1.0 - from / to);
        let deviation = eta * variance.max(0.0).sqrt();
        let latents = (to / from).sqrt();
        // What is left of the predicted noise, less what was in the latents; rounding may take the former below 0.
        let direction = (1.0 - to - deviation * deviation).max(0.0).sqrt();
        let predicted = direction - latents * (1.0 - from).sqrt();
        [latents, predicted, deviation]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean and variance of equation 7 of Ho et al.
    #[test]
    fn eta_of_one_is_the_posterior() {
        let schedule = NoiseSchedule::linear();
        for (step, jump) in schedule.way_back(STEPS, 1.0) {
            let Jump { from, to } = jump;
            let [latents, predicted, deviation] = jump.factors(1.0);
            let beta = 1.0 - from / to;
            let at_data = to.sqrt() * beta / (1.0 - from);
            let at_latents = (from / to).sqrt() * (1.0 - to) / (1.0 - from);
            // The data is (latents - sqrt(1 - a) noise) / sqrt(a).
            assert!((at_latents + at_data / from.sqrt() - latents).abs() < 1e-9);
            assert!((-at_data * ((1.0 - from) / from).sqrt() - predicted).abs() < 1e-9);
            let variance = (1.0 - to) / (1.0 - from) * beta;
            assert!((variance - deviation * deviation).abs() < 1e-12);
            assert_eq!(step == 0, deviation == 0.0);
        }
    }

    #[test]
    fn steps_are_evenly_spaced() {
        let schedule = NoiseSchedule::linear();
        for (count, steps) in [
            (1, vec![0]),
            (3, vec![666, 333, 0]),
            (4, vec![750, 500, 250, 0]),
        ] {
            let found: Vec<_> = schedule.way_back(count, 1.0).collect();
            assert_eq!(
                found.iter().map(|(step, _)| *step).collect::<Vec<_>>(),
                steps
            );
            for pair in found.windows(2) {
                assert_eq!(pair[0].1.to, pair[1].1.from);
            }
            assert_eq!(found[count - 1].1.to, 1.0);
        }
    }
}
