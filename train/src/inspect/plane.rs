//! A codebook seen from where it is widest.

use crate::{
    Error, Result,
    metrics::{Moments, symmetric_eigen},
};

/// Rows that are widened to f64 together.
const ROWS: usize = 4096;

/// Vectors projected on their two principal axes (PCA).
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// Each vector's place along the first and the second axis, from their mean; in the order given.
    pub points: Vec<[f32; 2]>,
    /// The shares of the variance along the two axes, 0 to 1; 0 where there is none at all.
    pub shares: [f64; 2],
}

/// Projects `vectors`, row-major [n, dim], on the two axes along which they vary most.
///
/// An axis points to where its largest component is positive (of equal ones the first), so that a table always looks the same. Of
/// vectors of one number the second axis is 0.
///
/// # Errors
/// [`Error::Argument`] for fewer than two vectors, a length that is no multiple of `dim`, or values that are not finite.
pub fn principal_plane(vectors: &[f32], dim: usize) -> Result<Plane> {
    if dim == 0 || !vectors.len().is_multiple_of(dim) {
        return Err(Error::Argument {
            what: "vectors",
            expected: format!("rows of {dim} numbers, at least one a row"),
            found: format!("{} numbers", vectors.len()),
        });
    }
    let mut moments = Moments::new(dim)?;
    for rows in vectors.chunks(ROWS * dim) {
        let rows: Vec<f64> = rows.iter().map(|&v| f64::from(v)).collect();
        moments.add(&rows)?;
    }
    let covariance = moments.covariance()?;
    let total: f64 = covariance.iter().step_by(dim + 1).sum();
    let eigen = symmetric_eigen(covariance, true)?;
    let mut order: Vec<usize> = (0..dim).collect();
    order.sort_by(|&a, &b| eigen.values[b].total_cmp(&eigen.values[a]));
    let axes: Vec<Vec<f64>> = order
        .iter()
        .take(2)
        .map(|&axis| towards_positive(&eigen.vectors[axis * dim..][..dim]))
        .collect();
    let mean = moments.mean();
    let points = vectors
        .chunks_exact(dim)
        .map(|vector| {
            let mut point = [0.0; 2];
            for (place, axis) in point.iter_mut().zip(&axes) {
                let terms = vector.iter().zip(&mean).zip(axis);
                *place = terms
                    .map(|((&v, m), a)| (f64::from(v) - m) * a)
                    .sum::<f64>() as f32;
            }
            point
        })
        .collect();
    let mut shares = [0.0; 2];
    for (share, &axis) in shares.iter_mut().zip(&order) {
        if total > 0.0 {
            *share = (eigen.values[axis] / total).clamp(0.0, 1.0);
        }
    }
    Ok(Plane { points, shares })
}

fn towards_positive(axis: &[f64]) -> Vec<f64> {
    let largest = axis.iter().fold(
        0.0f64,
        |most, &v| if v.abs() > most.abs() { v } else { most },
    );
    axis.iter().map(|&v| v * 1f64.copysign(largest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vqlc_model::rng::Rng;

    /// Points around a plane in 4 dimensions that was written down: found again, turned so that the signs are known.
    #[test]
    fn a_known_plane_is_found() {
        let mut rng = Rng::new(2);
        let (first, second) = ([0.6, 0.8, 0.0, 0.0], [0.0, 0.0, -0.8, 0.6]);
        let places: Vec<[f64; 2]> = (0..5000)
            .map(|_| [3.0 * rng.normal(), rng.normal()])
            .collect();
        let vectors: Vec<f32> = places
            .iter()
            .flat_map(|place| {
                (0..4).map(|d| (7.0 + place[0] * first[d] + place[1] * second[d]) as f32)
            })
            .collect();
        let plane = principal_plane(&vectors, 4).unwrap();
        let mean = |axis: usize| places.iter().map(|p| p[axis]).sum::<f64>() / 5000.0;
        let (first_mean, second_mean) = (mean(0), mean(1));
        for (found, place) in plane.points.iter().zip(&places) {
            assert!((f64::from(found[0]) - (place[0] - first_mean)).abs() < 0.1);
            // Its largest component, the third, is negative: the axis is turned.
            assert!((f64::from(found[1]) + (place[1] - second_mean)).abs() < 0.2);
        }
        assert!((plane.shares[0] - 0.9).abs() < 0.01, "{:?}", plane.shares);
        assert!((plane.shares[0] + plane.shares[1] - 1.0).abs() < 1e-6);
        assert_eq!(principal_plane(&vectors, 4).unwrap(), plane);
    }

    #[test]
    fn little_to_see_and_nothing() {
        let line = principal_plane(&[1.0, 2.0, 6.0], 1).unwrap();
        assert_eq!(line.points, [[-2.0, 0.0], [-1.0, 0.0], [3.0, 0.0]]);
        assert_eq!(line.shares, [1.0, 0.0]);
        let same = principal_plane(&[1.0; 6], 2).unwrap();
        assert_eq!((same.points[2], same.shares), ([0.0; 2], [0.0; 2]));
        for (vectors, dim) in [
            (&[1.0, 2.0][..], 2),
            (&[1.0, 2.0, 3.0], 2),
            (&[1.0], 0),
            (&[1.0, f32::NAN, 0.0, 0.0], 2),
        ] {
            assert!(principal_plane(vectors, dim).is_err());
        }
    }
}
