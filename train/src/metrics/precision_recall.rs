//! Precision and recall of generated pictures (Kynkäänniemi et al. 2019): how many lie where real ones do, and the other way round.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::{Error, Result};

/// Neighbours that make a ball, as the paper has it.
pub const NEIGHBOURS: usize = 3;
/// Vectors whose distances to as many others are found at once; 32 MB for each side at 2,048 features.
const BLOCK: usize = 2048;

/// Both from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Share of the generated vectors that lie in the ball of a real one.
    pub precision: f64,
    /// Share of the real vectors that lie in the ball of a generated one.
    pub recall: f64,
}

/// Of `real` and `made` vectors, each `[n, features]`, row-major. A vector's ball reaches to its `neighbours`-th nearest of the same set,
/// itself not counted, and holds what lies on its rim.
///
/// Squared distances are taken in f64 as `|a|^2 + |b|^2 - 2 a.b`, in blocks of one size whatever the number of threads; time grows with the
/// product of the counts, memory with their sum.
///
/// # Errors
/// [`Error::Argument`] for no features, no neighbours, a set of not more vectors than neighbours, or values that are not finite.
pub fn precision_recall(
    real: &[f32],
    made: &[f32],
    features: usize,
    neighbours: usize,
) -> Result<PrecisionRecall> {
    let real = Cloud::new(real, features, neighbours)?;
    let made = Cloud::new(made, features, neighbours)?;
    let (real_radii, made_radii) = (real.radii(neighbours)?, made.radii(neighbours)?);
    let share = |inside: Vec<bool>| {
        inside.iter().filter(|inside| **inside).count() as f64 / inside.len() as f64
    };
    Ok(PrecisionRecall {
        precision: share(made.inside(&real, &real_radii)?),
        recall: share(real.inside(&made, &made_radii)?),
    })
}

/// A set of vectors.
struct Cloud<'a> {
    vectors: &'a [f32],
    features: usize,
}

impl<'a> Cloud<'a> {
    fn new(vectors: &'a [f32], features: usize, neighbours: usize) -> Result<Self> {
        let fits = features > 0 && vectors.len().is_multiple_of(features);
        let enough = fits && vectors.len() / features > neighbours;
        let finite = vectors.iter().all(|v| v.is_finite());
        if neighbours == 0 || !enough || !finite {
            return Err(Error::Argument {
                what: "feature vectors for precision and recall",
                expected: format!("finite ones, more than {} of a kind", neighbours.max(1)),
                found: format!(
                    "{} numbers in rows of {features}, all finite: {finite}",
                    vectors.len()
                ),
            });
        }
        Ok(Self { vectors, features })
    }

    /// Blocks of vectors, `[n, features]` in f64, with the squared length of each.
    fn blocks(&self) -> impl Iterator<Item = Result<(Tensor, Vec<f64>)>> {
        let features = self.features;
        self.vectors.chunks(BLOCK * features).map(move |block| {
            let values: Vec<f64> = block.iter().map(|&v| f64::from(v)).collect();
            let squares = values.chunks_exact(features);
            let squares = squares.map(|v| v.iter().map(|x| x * x).sum()).collect();
            let shape = (block.len() / features, features);
            Ok((Tensor::from_vec(values, shape, &Device::Cpu)?, squares))
        })
    }

    /// Shows each vector's squared distances to a block of `others` after the other: `see(state, first, distances)` with the number of the
    /// block's first; what becomes of the states, which start as `state(vector)`.
    fn distances<S: Send>(
        &self,
        others: &Cloud<'_>,
        state: impl Fn(usize) -> S,
        see: impl Fn(&mut S, usize, &[f64]) + Sync,
    ) -> Result<Vec<S>> {
        let mut all = Vec::with_capacity(self.vectors.len() / self.features);
        for block in self.blocks() {
            let (vectors, squares) = block?;
            let first = all.len();
            let mut states: Vec<S> = (first..first + squares.len()).map(&state).collect();
            for (number, block) in others.blocks().enumerate() {
                let (others, other_squares) = block?;
                let products = vectors.matmul(&others.t()?)?;
                let mut rows = products.flatten_all()?.to_vec1::<f64>()?;
                rows.par_chunks_exact_mut(other_squares.len())
                    .zip(&squares)
                    .zip(&mut states)
                    .for_each(|((row, square), state)| {
                        for (value, other) in row.iter_mut().zip(&other_squares) {
                            *value = (square + other - 2.0 * *value).max(0.0);
                        }
                        see(state, number * BLOCK, row);
                    });
            }
            all.append(&mut states);
        }
        Ok(all)
    }

    /// The squared distance of each vector to its `neighbours`-th nearest other.
    fn radii(&self, neighbours: usize) -> Result<Vec<f64>> {
        // The nearest so far, nearest first.
        let start = |vector: usize| (vector, vec![f64::INFINITY; neighbours]);
        let nearest = self.distances(self, start, |(own, nearest), first, distances| {
            for (other, &distance) in (first..).zip(distances) {
                let place = nearest.partition_point(|&known| known <= distance);
                if other != *own && place < neighbours {
                    nearest.pop();
                    nearest.insert(place, distance);
                }
            }
        })?;
        let last = |(_, nearest): (usize, Vec<f64>)| nearest[neighbours - 1];
        Ok(nearest.into_iter().map(last).collect())
    }

    /// Which vectors lie in a ball around one of `others`.
    fn inside(&self, others: &Cloud<'_>, radii: &[f64]) -> Result<Vec<bool>> {
        self.distances(
            others,
            |_| false,
            |inside, first, distances| {
                let mut balls = distances.iter().zip(&radii[first..]);
                *inside |= balls.any(|(distance, radius)| distance <= radius);
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clouds_that_can_be_worked_out() {
        // On a line, one neighbour: the real balls cover [-1, 2] and [9, 12], the generated ones [-2, 2] and [24, 28].
        let real = [0.0, 1.0, 10.0, 11.0];
        let made = [0.0, 2.0, -0.5, 26.0, 27.0];
        let found = precision_recall(&real, &made, 1, 1).unwrap();
        assert_eq!(found.precision, 3.0 / 5.0);
        assert_eq!(found.recall, 2.0 / 4.0);
        let same = precision_recall(&real, &real, 1, 1).unwrap();
        assert_eq!((same.precision, same.recall), (1.0, 1.0));
        // All in one place: balls of radius 0, which hold their middle.
        let same = precision_recall(&[0.1; 8], &[0.1; 10], 2, 3).unwrap();
        assert_eq!((same.precision, same.recall), (1.0, 1.0));
    }

    #[test]
    fn blocks_and_threads_change_nothing() {
        let mut state = 1u32;
        let mut cloud = |count: usize, scale: f32| -> Vec<f32> {
            let mut draw = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 * scale
            };
            (0..count * 2).map(|_| draw()).collect()
        };
        // One vector more than a block, and a block and a bit.
        let (real, made) = (cloud(BLOCK + 1, 1.0), cloud(BLOCK + 300, 1.5));
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let run = || precision_recall(&real, &made, 2, 3).unwrap();
            pool.unwrap().install(run)
        };
        let found = with(1);
        assert_eq!(found, with(3));
        // Plainly, for all pairs.
        let distance = |a: &[f32], b: &[f32]| -> f64 {
            let pairs = a.iter().zip(b);
            pairs
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                .sum()
        };
        let share = |of: &[f32], around: &[f32]| {
            let radii: Vec<f64> = (around.chunks_exact(2))
                .map(|a| {
                    let mut all: Vec<f64> =
                        around.chunks_exact(2).map(|b| distance(a, b)).collect();
                    all.sort_by(f64::total_cmp);
                    all[3]
                })
                .collect();
            let balls = || around.chunks_exact(2).zip(&radii);
            let inside = |a: &&[f32]| balls().any(|(b, radius)| distance(a, b) <= *radius);
            of.chunks_exact(2).filter(inside).count() as f64 / (of.len() / 2) as f64
        };
        assert!((found.precision - share(&made, &real)).abs() < 1e-3);
        assert!((found.recall - share(&real, &made)).abs() < 1e-3);
        assert!(found.precision > 0.3 && found.precision < 0.6, "{found:?}");
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let many = [0.0; 10];
        assert!(precision_recall(&many, &many[..3], 1, 3).is_err());
        assert!(precision_recall(&many, &many, 0, 3).is_err());
        assert!(precision_recall(&many, &many, 3, 3).is_err());
        assert!(precision_recall(&many, &many, 1, 0).is_err());
        assert!(precision_recall(&[f32::NAN; 10], &many, 1, 3).is_err());
    }
}
