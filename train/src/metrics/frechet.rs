//! The Fréchet distance between two clouds of features, each taken for a Gaussian (Heusel et al., 2017; "FID" of Inception's features).

use rayon::prelude::*;

use super::{
    eigen::{Eigen, dot, symmetric_eigen},
    statistics::Gaussian,
};
use crate::{Error, Result};

/// Mean and covariance of feature vectors, collected as they come.
#[derive(Clone, Debug)]
pub struct Moments {
    count: u64,
    /// The first vector: sums of differences from it lose no digits to a mean far from 0.
    origin: Vec<f64>,
    sums: Vec<f64>,
    /// Sums of products, [d, d]; only `j >= i` of row `i`.
    products: Vec<f64>,
}

impl Moments {
    /// Of vectors of `features` numbers. Takes 8 `features`^2 bytes.
    ///
    /// # Errors
    /// [`Error::Argument`] for no features, or more than 65,536.
    pub fn new(features: usize) -> Result<Self> {
        if !(1..=1 << 16).contains(&features) {
            return Err(Error::Argument {
                what: "features",
                expected: "1 to 65536".into(),
                found: features.to_string(),
            });
        }
        Ok(Self {
            count: 0,
            origin: vec![0.0; features],
            sums: vec![0.0; features],
            products: vec![0.0; features * features],
        })
    }

    /// Adds vectors, [n, features] row-major. How they are divided into calls changes nothing.
    ///
    /// # Errors
    /// [`Error::Argument`] for a length that is no multiple of the features, or a value that is not finite; then none is added.
    pub fn add(&mut self, vectors: &[f64]) -> Result<()> {
        let features = self.origin.len();
        let finite = vectors.iter().all(|v| v.is_finite());
        if !vectors.len().is_multiple_of(features) || !finite {
            return Err(Error::Argument {
                what: "feature vectors",
                expected: format!("rows of {features} finite numbers"),
                found: format!("{} numbers, all finite: {finite}", vectors.len()),
            });
        }
        if self.count == 0 && !vectors.is_empty() {
            self.origin.copy_from_slice(&vectors[..features]);
        }
        let shifted: Vec<f64> = vectors
            .chunks_exact(features)
            .flat_map(|row| row.iter().zip(&self.origin).map(|(v, o)| v - o))
            .collect();
        for row in shifted.chunks_exact(features) {
            for (sum, value) in self.sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
        let rows = self.products.par_chunks_exact_mut(features).enumerate();
        rows.for_each(|(i, products)| {
            for row in shifted.chunks_exact(features) {
                let factor = row[i];
                for (product, value) in products[i..].iter_mut().zip(&row[i..]) {
                    *product += factor * value;
                }
            }
        });
        self.count += (vectors.len() / features) as u64;
        Ok(())
    }

    /// Vectors added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; zeros without vectors.
    pub fn mean(&self) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        let offsets = self.sums.iter().map(|sum| sum / count);
        self.origin
            .iter()
            .zip(offsets)
            .map(|(o, d)| o + d)
            .collect()
    }

    /// Their unbiased (n - 1) covariance, [features, features].
    ///
    /// # Errors
    /// [`Error::Argument`] for fewer than two vectors.
    pub fn covariance(&self) -> Result<Vec<f64>> {
        if self.count < 2 {
            return Err(Error::Argument {
                what: "feature vectors",
                expected: "at least 2".into(),
                found: self.count.to_string(),
            });
        }
        let features = self.origin.len();
        let count = self.count as f64;
        let mut out = vec![0.0; features * features];
        for i in 0..features {
            for j in i..features {
                let product = self.products[i * features + j] - self.sums[i] * self.sums[j] / count;
                let value = product / (count - 1.0);
                out[i * features + j] = value;
                out[j * features + i] = value;
            }
        }
        Ok(out)
    }
}

/// `|ma - mb|^2 + tr(Ca + Cb - 2 (Ca^1/2 Cb Ca^1/2)^1/2)` of means and covariances, collected here or read from a file. Fewer vectors than
/// features are no hindrance: what the covariances do not span takes no part in the root, and nothing is added to their diagonals. Time
/// grows with the cube of the features.
///
/// # Errors
/// [`Error::Argument`] for fewer than two vectors on a side, different numbers of features, or numbers too large for f64.
pub fn frechet_distance(a: &impl Gaussian, b: &impl Gaussian) -> Result<f64> {
    let ((mean_a, cov_a), (mean_b, cov_b)) = (a.gaussian()?, b.gaussian()?);
    let features = mean_a.len();
    if mean_b.len() != features {
        return Err(Error::Argument {
            what: "features",
            expected: features.to_string(),
            found: mean_b.len().to_string(),
        });
    }
    let means = mean_a.iter().zip(mean_b.iter());
    let apart: f64 = means.map(|(a, b)| (a - b) * (a - b)).sum();
    let trace = |matrix: &[f64]| -> f64 { matrix.iter().step_by(features + 1).sum() };
    let fixed = apart + trace(&cov_a) + trace(&cov_b);
    if !fixed.is_finite() {
        return Err(Error::Argument {
            what: "features",
            expected: "a variance that f64 can hold".into(),
            found: fixed.to_string(),
        });
    }
    // With Ca = V L V', the inner matrix has the eigenvalues of (V L^1/2)' Cb (V L^1/2); columns without variance drop out.
    let Eigen { values, vectors } = symmetric_eigen(cov_a.into_owned(), true)?;
    let floor = rounding(&values);
    let half: Vec<f64> = values
        .iter()
        .zip(vectors.chunks_exact(features))
        .filter(|(value, _)| **value > floor)
        .flat_map(|(value, vector)| vector.iter().map(|v| v * value.sqrt()))
        .collect();
    if half.is_empty() {
        return Ok(fixed);
    }
    // Rows of `half` are the columns above, and Cb is symmetric: both products are of rows by rows.
    let inner = rows_by_rows(&rows_by_rows(&half, &cov_b, features), &half, features);
    let values = symmetric_eigen(inner, false)?.values;
    let floor = rounding(&values);
    let root: f64 = values
        .iter()
        .filter(|v| **v > floor)
        .map(|v| v.sqrt())
        .sum();
    // Never below 0 but for rounding.
    let distance = fixed - 2.0 * root;
    Ok(if distance > 0.0 { distance } else { 0.0 })
}

/// The dot products of all rows of `a` with all rows of `b`, rows of `length`.
fn rows_by_rows(a: &[f64], b: &[f64], length: usize) -> Vec<f64> {
    a.par_chunks_exact(length)
        .flat_map_iter(|row| b.chunks_exact(length).map(move |other| dot(row, other)))
        .collect()
}

/// Eigenvalues below this are rounding errors of zeros; the square root would turn 1e-16 into 1e-8.
fn rounding(eigenvalues: &[f64]) -> f64 {
    let largest = eigenvalues.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    largest * eigenvalues.len() as f64 * f64::EPSILON
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(features: usize, vectors: &[f64]) -> Moments {
        let mut moments = Moments::new(features).unwrap();
        for vector in vectors.chunks_exact(features) {
            moments.add(vector).unwrap();
        }
        moments
    }

    #[test]
    fn distances_that_can_be_worked_out() {
        // Variances (2, 8) and (18, 32) along the axes: a shift of (3, 4), and (sqrt 2 - sqrt 18)^2 + (sqrt 8 - sqrt 32)^2.
        let a = moments(2, &[-2.0, 0.0, 2.0, 0.0, 0.0, 4.0, 0.0, -4.0]);
        let b = moments(2, &[-3.0, 4.0, 9.0, 4.0, 3.0, 12.0, 3.0, -4.0]);
        let variances = [8.0 / 3.0, 32.0 / 3.0, 24.0, 128.0 / 3.0];
        let covariance = [a.covariance().unwrap(), b.covariance().unwrap()];
        let found = [
            covariance[0][0],
            covariance[0][3],
            covariance[1][0],
            covariance[1][3],
        ];
        for (found, expected) in found.iter().zip(variances) {
            assert!((found - expected).abs() < 1e-12);
        }
        let roots = variances.map(f64::sqrt);
        let expected = 25.0 + (roots[0] - roots[2]).powi(2) + (roots[1] - roots[3]).powi(2);
        let found = frechet_distance(&a, &b).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        assert!(frechet_distance(&a, &a).unwrap().abs() < 1e-12);
    }

    #[test]
    fn a_far_mean_costs_no_digits_and_no_variance_is_no_failure() {
        let near = moments(1, &[0.0, 1.0, 2.0]);
        let far = moments(1, &[1e9, 1e9 + 1.0, 1e9 + 2.0]);
        assert_eq!(near.covariance().unwrap(), far.covariance().unwrap());
        let still = moments(1, &[5.0, 5.0]);
        assert_eq!(frechet_distance(&still, &near).unwrap(), 16.0 + 1.0);
        assert_eq!(frechet_distance(&near, &still).unwrap(), 16.0 + 1.0);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Moments::new(0).is_err());
        let mut one = moments(2, &[1.0, 2.0]);
        assert!(one.covariance().is_err());
        assert!(one.add(&[1.0]).is_err());
        assert!(one.add(&[1.0, f64::NAN]).is_err());
        assert_eq!(one.count(), 1);
        let two = moments(1, &[1.0, 2.0]);
        assert!(frechet_distance(&one, &two).is_err());
        let huge = moments(1, &[-1e300, 1e300]);
        assert!(frechet_distance(&huge, &two).is_err());
    }
}
