//! Cross-entropy over a large vocabulary on the CPU: a row of logits becomes its gradient where it stands.

use rayon::prelude::*;

use crate::Error;
use crate::conv::length;
use crate::lanes::{Job, LANES, Lanes, Proven};
use crate::norm::exp;

/// Logarithm of the least probability, beside the greatest, that is not 0.
const LEAST: f32 = -80.0;

/// The summed cross-entropy (nats) of `targets`, one for each row, with the softmax of the rows `[targets, vocabulary]` of `logits`, which
/// become its gradient: the softmax less the target, of which `smoothing` is spread evenly over the vocabulary. Runs on rayon's current
/// pool; the same bits on every processor and for every number of threads. Near [`plain::cross_entropy`](crate::plain::cross_entropy).
///
/// # Errors
/// [`Error::Length`], [`Error::Empty`], [`Error::Target`].
pub fn cross_entropy(logits: &mut [f32], targets: &[u32], smoothing: f32) -> Result<f64, Error> {
    if targets.is_empty() || logits.is_empty() {
        return Err(Error::Empty { what: "logits" });
    }
    let vocabulary = logits.len() / targets.len();
    length("logits", vocabulary * targets.len(), logits.len())?;
    if let Some(&target) = targets.iter().find(|&&t| t as usize >= vocabulary) {
        return Err(Error::Target { target, vocabulary });
    }
    let kernel = Proven::best();
    let losses: Vec<f64> = (logits.par_chunks_exact_mut(vocabulary))
        .zip(targets)
        .map(|(logits, &target)| {
            kernel.run(Row {
                logits,
                target: target as usize,
                smoothing,
            })
        })
        .collect();
    Ok(losses.iter().sum())
}

struct Row<'a> {
    logits: &'a mut [f32],
    target: usize,
    smoothing: f32,
}

impl Job for Row<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> f64 {
        let count = self.logits.len();
        let hit = self.logits[self.target];
        let (greatest, sum) = greatest_and_sum(self.logits);
        let mean = f64::from(sum) / count as f64;
        let total = powers(self.logits, greatest);
        let all = f64::from(total.ln()) + f64::from(greatest);
        let smoothing = f64::from(self.smoothing);
        let loss = (1.0 - smoothing) * (all - f64::from(hit)) + smoothing * (all - mean);
        let factor = 1.0 / total;
        let even = (smoothing / count as f64) as f32;
        for x in self.logits.iter_mut() {
            *x = *x * factor - even;
        }
        self.logits[self.target] -= 1.0 - self.smoothing;
        loss
    }
}

/// The greatest number and the sum of all, lane by lane.
#[inline(always)]
fn greatest_and_sum(values: &[f32]) -> (f32, f32) {
    let (mut greatest, mut sums) = ([f32::NEG_INFINITY; LANES], [0.0f32; LANES]);
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for ((greatest, sum), &x) in greatest.iter_mut().zip(&mut sums).zip(chunk) {
            *greatest = if x > *greatest { x } else { *greatest };
            *sum += x;
        }
    }
    for ((greatest, sum), &x) in greatest.iter_mut().zip(&mut sums).zip(rest) {
        *greatest = if x > *greatest { x } else { *greatest };
        *sum += x;
    }
    (
        greatest.into_iter().fold(f32::NEG_INFINITY, f32::max),
        sums.into_iter().sum(),
    )
}

/// exp(x - greatest) in place of each x; their sum.
#[inline(always)]
fn powers(values: &mut [f32], greatest: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (whole, rest) = values.as_chunks_mut::<LANES>();
    for chunk in whole {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = power(*x - greatest);
            *sum += *x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *x = power(*x - greatest);
        *sum += *x;
    }
    sums.into_iter().sum()
}

/// e to a power of at most 0; far below what the others' rounding is, it is 0.
#[inline(always)]
fn power(x: f32) -> f32 {
    if x < LEAST { 0.0 } else { exp(x) }
}
