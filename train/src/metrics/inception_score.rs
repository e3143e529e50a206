//! The Inception Score (Salimans et al. 2016): how sure a classifier is of each picture, and how evenly it is sure of all classes.

use rayon::prelude::*;

use crate::{Error, Result};

/// Parts that are scored, as published figures have it.
pub const SPLITS: usize = 10;
/// torch-fidelity's seed of the order that pictures are dealt out in.
const SEED: u32 = 2020;

/// Over the parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InceptionScore {
    /// Their mean; from 1 to the number of classes, higher is better.
    pub mean: f64,
    /// Their standard deviation (of the parts themselves: divided by their number).
    pub deviation: f64,
}

/// `exp(mean of KL(p(y|x) || p(y)))` for each of `splits` parts of n pictures with `logits` `[n, classes]`, row-major; in f64.
///
/// The published figures' logits are those of FID's Inception without the classifier's bias. Pictures are dealt out to the parts in the
/// order in which torch-fidelity does so by default: the permutation of NumPy's `RandomState(2020)`, which is a function of n alone.
/// Part i then holds those from `i n / splits` on.
///
/// # Errors
/// [`Error::Argument`] for no classes, no parts, fewer pictures than parts, a length that is no multiple of the classes, or logits that are
/// not finite.
pub fn inception_score(logits: &[f32], classes: usize, splits: usize) -> Result<InceptionScore> {
    let fits = classes > 0 && logits.len().is_multiple_of(classes);
    let count = if fits { logits.len() / classes } else { 0 };
    let finite = logits.iter().all(|v| v.is_finite());
    if splits == 0 || count < splits || !finite {
        return Err(Error::Argument {
            what: "logits for an Inception Score",
            expected: format!("finite ones of at least {} pictures", splits.max(1)),
            found: format!(
                "{} in rows of {classes}, all finite: {finite}",
                logits.len()
            ),
        });
    }
    let order = numpy_permutation(count);
    let bounds = |i: usize| i * count / splits;
    let scores: Vec<f64> = (0..splits)
        .into_par_iter()
        .map(|i| {
            let part = &order[bounds(i)..bounds(i + 1)];
            score(part.iter().map(|&at| &logits[at * classes..][..classes]))
        })
        .collect();
    let mean = scores.iter().sum::<f64>() / splits as f64;
    let squares: f64 = scores.iter().map(|s| (s - mean) * (s - mean)).sum();
    Ok(InceptionScore {
        mean,
        deviation: (squares / splits as f64).sqrt(),
    })
}

/// Of one part.
fn score<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]> + Clone) -> f64 {
    let count = rows.len() as f64;
    let mut mean: Vec<f64> = Vec::new();
    // KL(p || q) = sum of p log p - sum of p log q, and the second is linear in p.
    let mut certainty = 0.0;
    for row in rows {
        mean.resize(row.len(), 0.0);
        let greatest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let shifted = |x: f32| f64::from(x) - f64::from(greatest);
        let log_sum = row.iter().map(|&x| shifted(x).exp()).sum::<f64>().ln();
        for (mean, &x) in mean.iter_mut().zip(row) {
            let log = shifted(x) - log_sum;
            let p = log.exp();
            certainty += p * log;
            *mean += p;
        }
    }
    let evenness: f64 = (mean.iter().map(|sum| sum / count))
        .filter(|q| *q > 0.0)
        .map(|q| q * q.ln())
        .sum();
    (certainty / count - evenness).exp()
}

/// `numpy.random.RandomState(2020).permutation(count)`: Fisher and Yates from the end, each place drawn by masking 32 bits until they fit.
fn numpy_permutation(count: usize) -> Vec<usize> {
    let mut twister = Twister::new(SEED);
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        let mask = usize::MAX >> last.leading_zeros();
        let place = loop {
            let drawn = twister.next() as usize & mask;
            if drawn <= last {
                break drawn;
            }
        };
        order.swap(last, place);
    }
    order
}

/// MT19937 (Matsumoto and Nishimura 1998), which NumPy draws with.
struct Twister {
    state: [u32; Self::SIZE],
    at: usize,
}

impl Twister {
    const SIZE: usize = 624;
    const SHIFT: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = [seed; Self::SIZE];
        for i in 1..Self::SIZE {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = before.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self {
            state,
            at: Self::SIZE,
        }
    }

    fn next(&mut self) -> u32 {
        if self.at == Self::SIZE {
            for i in 0..Self::SIZE {
                let next = self.state[(i + 1) % Self::SIZE];
                let joined = (self.state[i] & 0x8000_0000) | (next & 0x7fff_ffff);
                let twist = if joined.is_multiple_of(2) {
                    0
                } else {
                    0x9908_b0df
                };
                self.state[i] = self.state[(i + Self::SHIFT) % Self::SIZE] ^ (joined >> 1) ^ twist;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twister_is_matsumotos() {
        // The C++ standard states the 10,000th number of the default seed (rand.predef).
        let mut twister = Twister::new(5489);
        assert_eq!(
            (0..10_000).map(|_| twister.next()).last(),
            Some(4_123_659_995)
        );
    }

    #[test]
    fn scores_that_can_be_worked_out() {
        // Each picture surely of a class of its own, every class as often: the number of classes. 12 pictures in 3 parts of 4.
        let sure = |class: usize| (0..4).map(move |c| if c == class { 200.0 } else { 0.0 });
        let alike: Vec<f32> = (0..12).flat_map(|_| sure(1)).collect();
        let score = inception_score(&alike, 4, 3).unwrap();
        assert_eq!((score.mean, score.deviation), (1.0, 0.0));
        let even: Vec<f32> = (0..12).flat_map(|i| sure(i % 4)).collect();
        let score = inception_score(&even, 4, 1).unwrap();
        assert!((score.mean - 4.0).abs() < 1e-12, "{score:?}");
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        assert!(inception_score(&[0.0; 8], 0, 1).is_err());
        assert!(inception_score(&[0.0; 8], 3, 1).is_err());
        assert!(inception_score(&[0.0; 8], 4, 3).is_err());
        assert!(inception_score(&[0.0; 8], 4, 0).is_err());
        assert!(inception_score(&[], 4, 1).is_err());
        assert!(inception_score(&[0.0, f32::NAN], 2, 1).is_err());
    }
}
