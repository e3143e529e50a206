//! The learning rate as a function of the step.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, config::OptimizerConfig};

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// As half a cosine.
    #[default]
    Cosine,
    /// In a straight line.
    Linear,
}

/// Linear warm-up, then constant, then a fall. Times are in one unit, steps or epochs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The rate after the warm-up.
    pub base: f64,
    /// The rate at the end.
    pub min: f64,
    /// When the warm-up ends; before, the rate grows from 0.
    pub warmup: f64,
    /// When the rate starts to fall; a time before the end of the warm-up means at its end.
    pub hold: f64,
    /// When it has fallen to `min`, where it stays.
    pub total: f64,
    /// How it falls.
    #[serde(default)]
    pub decay: Decay,
}

impl Schedule {
    /// That of a run of `steps` steps; warm-up and constant part end with the run at the latest.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn new(section: &OptimizerConfig, steps: u64) -> Result<Self> {
        let steps = steps as f64;
        let schedule = Self {
            base: section.lr,
            min: section.min_lr,
            warmup: (section.warmup as f64).min(steps),
            hold: (section.hold as f64).min(steps),
            total: steps,
            decay: section.decay,
        };
        schedule.check()?;
        Ok(schedule)
    }

    /// Refuses what is not a schedule.
    ///
    /// # Errors
    /// [`Error::Config`] for rates or times that are negative or not finite, and for an end before the fall starts.
    pub fn check(&self) -> Result<()> {
        let Self {
            base,
            min,
            warmup,
            hold,
            total,
            ..
        } = *self;
        let numbers = [base, min, warmup, hold, total];
        if numbers.iter().any(|x| !(x.is_finite() && *x >= 0.0)) || min > base {
            return Err(Error::Config(format!(
                "learning rates and times must be at least 0, and min {min} at most base {base}"
            )));
        }
        if total < warmup.max(hold) {
            return Err(Error::Config(format!(
                "the learning rate's total {total} is before the end of warmup {warmup} and hold {hold}"
            )));
        }
        Ok(())
    }

    /// The rate at time `t`, which may be fractional.
    pub fn at(&self, t: f64) -> f64 {
        let fall = self.hold.max(self.warmup);
        if t < self.warmup {
            self.base * t.max(0.0) / self.warmup
        } else if t < fall {
            self.base
        } else if t < self.total {
            let share = (t - fall) / (self.total - fall);
            let left = match self.decay {
                Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
                Decay::Linear => 1.0 - share,
            };
            self.min + (self.base - self.min) * left
        } else {
            self.min
        }
    }
}
