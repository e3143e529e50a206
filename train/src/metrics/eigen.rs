//! Eigenvalues and eigenvectors of a symmetric matrix in f64: Householder reduction to tridiagonal form, then QL steps with implicit
//! shifts (Martin, Reinsch, Wilkinson, 1968; Dubrulle, 1970).
//!
//! Written here because nalgebra compares what is left beside the diagonal with its two neighbours on it. Fewer pictures than features
//! leave hundreds of eigenvalues that are rounding errors; among these such a comparison need not ever be met.

use rayon::prelude::*;

use crate::{Error, Result};

/// QL steps that one eigenvalue may take; two or three are usual.
const STEPS: usize = 100;

/// `A = sum over i of values[i] vectors[i] vectors[i]'`.
pub(crate) struct Eigen {
    /// In no order.
    pub(crate) values: Vec<f64>,
    /// Row `i` belongs to value `i`; unit length. Empty if not asked for.
    pub(crate) vectors: Vec<f64>,
}

/// Of `matrix`, [n, n], of which the part on and below the diagonal counts. Takes some 4 n^3 operations, 9 n^3 with vectors.
///
/// # Errors
/// [`Error::Argument`] for a length that is no square, or values that are not finite or too large to square.
pub(crate) fn symmetric_eigen(mut matrix: Vec<f64>, with_vectors: bool) -> Result<Eigen> {
    let n = matrix.len().isqrt();
    let squares: f64 = matrix.iter().map(|v| v * v).sum();
    if n * n != matrix.len() || !squares.is_finite() {
        return Err(refused(format!(
            "{} values, sum of squares {squares}",
            matrix.len()
        )));
    }
    let (mut values, mut beside) = tridiagonal(&mut matrix, n);
    let mut vectors = Vec::new();
    if with_vectors {
        vectors = vec![0.0; n * n];
        vectors.iter_mut().step_by(n + 1).for_each(|v| *v = 1.0);
    }
    diagonal(&mut values, &mut beside, &mut vectors, squares.sqrt())?;
    // From the tridiagonal matrix's vectors to the matrix's: the reflections, last one first. Their normals lie in the rows.
    vectors.par_chunks_exact_mut(n.max(1)).for_each(|vector| {
        for k in (0..n.saturating_sub(2)).rev() {
            let normal = &matrix[k * n + k + 1..(k + 1) * n];
            reflect(&mut vector[k + 1..], normal);
        }
    });
    Ok(Eigen { values, vectors })
}

fn refused(found: String) -> Error {
    Error::Argument {
        what: "symmetric matrix",
        expected: "a square of finite numbers".into(),
        found,
    }
}

/// The dot product of two rows of one length, in eight sums that the CPU can add up at once; always the same eight.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Mirrors `vector` at the plane with this normal of length sqrt(2), or leaves it where the normal is 0.
fn reflect(vector: &mut [f64], normal: &[f64]) {
    let along = dot(vector, normal);
    for (v, n) in vector.iter_mut().zip(normal) {
        *v -= along * n;
    }
}

/// Reduces the matrix; returns the diagonal, and what is beside it (with a 0 at the end). Row `k` of `matrix` then holds, right of the
/// diagonal, the normal of reflection `k`, which acts on the coordinates after `k`.
fn tridiagonal(matrix: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut beside = vec![0.0; n];
    for k in 0..n.saturating_sub(2) {
        let (above, below) = matrix.split_at_mut((k + 1) * n);
        let normal = &mut above[k * n + k + 1..];
        for (value, row) in normal.iter_mut().zip(below.chunks_exact(n)) {
            *value = row[k];
        }
        let length = dot(normal, normal).sqrt();
        // Away from the first coordinate's sign, so that nothing cancels.
        let onto = if normal[0] > 0.0 { -length } else { length };
        beside[k] = onto;
        normal[0] -= onto;
        let square = dot(normal, normal);
        if square == 0.0 {
            continue;
        }
        let scale = (2.0 / square).sqrt();
        normal.iter_mut().for_each(|v| *v *= scale);
        let normal = &*normal;
        // B - n p' - p n' + (n.p) n n' with p = B n, the whole of B kept: its rows are contiguous.
        let mut product: Vec<f64> = below
            .par_chunks_exact(n)
            .map(|row| dot(&row[k + 1..], normal))
            .collect();
        let half = dot(normal, &product) / 2.0;
        for (p, v) in product.iter_mut().zip(normal) {
            *p -= half * v;
        }
        let rows = below.par_chunks_exact_mut(n).enumerate();
        rows.for_each(|(i, row)| {
            let (p, v) = (product[i], normal[i]);
            let others = normal.iter().zip(&product);
            for (value, (other_v, other_p)) in row[k + 1..].iter_mut().zip(others) {
                *value -= p * other_v + v * other_p;
            }
        });
    }
    if n > 1 {
        beside[n - 2] = matrix[(n - 1) * n + n - 2];
    }
    let values = matrix.iter().step_by(n + 1).copied().collect();
    (values, beside)
}

/// Makes the tridiagonal matrix diagonal, rotating the rows of `vectors` (n of them, or none) along. `norm` is its norm.
fn diagonal(values: &mut [f64], beside: &mut [f64], vectors: &mut [f64], norm: f64) -> Result<()> {
    let n = values.len();
    for first in 0..n {
        for step in 0.. {
            // What is taken for 0 moves no eigenvalue by more than the reduction to this form did.
            let split = |i: &usize| beside[*i].abs() <= f64::EPSILON * norm;
            let last = (first..n - 1).find(split).unwrap_or(n - 1);
            if last == first {
                break;
            }
            if step == STEPS {
                return Err(refused(format!("one whose value {first} is not found")));
            }
            ql_step(values, beside, vectors, first, last);
        }
    }
    Ok(())
}

/// One QL step on the rows `first` to `last`, which nothing joins to others, shifted by the eigenvalue of the upper corner.
fn ql_step(values: &mut [f64], beside: &mut [f64], vectors: &mut [f64], first: usize, last: usize) {
    let n = values.len();
    let ratio = (values[first + 1] - values[first]) / (2.0 * beside[first]);
    let root = ratio.hypot(1.0).copysign(ratio);
    let mut bulge = values[last] - values[first] + beside[first] / (ratio + root);
    let (mut sine, mut cosine, mut moved) = (1.0, 1.0, 0.0);
    for i in (first..last).rev() {
        let (f, b) = (sine * beside[i], cosine * beside[i]);
        let radius = f.hypot(bulge);
        beside[i + 1] = radius;
        if radius == 0.0 {
            // The matrix has split here; the next step sees to the parts.
            values[i + 1] -= moved;
            beside[last] = 0.0;
            return;
        }
        (sine, cosine) = (f / radius, bulge / radius);
        let shifted = values[i + 1] - moved;
        let change = (values[i] - shifted) * sine + 2.0 * cosine * b;
        moved = sine * change;
        values[i + 1] = shifted + moved;
        bulge = cosine * change - b;
        if !vectors.is_empty() {
            let (upper, lower) = vectors.split_at_mut((i + 1) * n);
            for (u, l) in upper[i * n..].iter_mut().zip(&mut lower[..n]) {
                (*u, *l) = (cosine * *u - sine * *l, sine * *u + cosine * *l);
            }
        }
    }
    values[first] -= moved;
    beside[first] = bulge;
    beside[last] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use vqlc_model::rng::Rng;

    /// The largest difference between `matrix` and what its eigenvalues and vectors make, and of the vectors' products from 0 and 1.
    fn errors(matrix: &[f64], n: usize) -> (f64, f64) {
        let Eigen { values, vectors } = symmetric_eigen(matrix.to_vec(), true).unwrap();
        let only = symmetric_eigen(matrix.to_vec(), false).unwrap();
        assert_eq!(only.values, values);
        assert!(only.vectors.is_empty());
        let (mut made, mut skew) = (0.0f64, 0.0f64);
        for i in 0..n {
            for j in 0..n {
                let terms = (0..n).map(|k| values[k] * vectors[k * n + i] * vectors[k * n + j]);
                made = made.max((terms.sum::<f64>() - matrix[i * n + j]).abs());
                let product = dot(&vectors[i * n..][..n], &vectors[j * n..][..n]);
                skew = skew.max((product - f64::from(i == j)).abs());
            }
        }
        (made, skew)
    }

    #[test]
    fn matrices_are_put_together_again() {
        let mut rng = Rng::new(3);
        for (n, rank) in [(1, 1), (2, 2), (3, 3), (17, 17), (40, 9), (60, 60)] {
            let columns: Vec<f64> = (0..n * rank).map(|_| rng.normal()).collect();
            let entry = |i: usize, j: usize| {
                dot(&columns[i * rank..][..rank], &columns[j * rank..][..rank])
            };
            let matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
            let (made, skew) = errors(&matrix, n);
            assert!(made < 1e-12 * n as f64 * 10.0, "{n}, {rank}: {made}");
            assert!(skew < 1e-13 * n as f64, "{n}, {rank}: {skew}");
        }
    }

    /// Features of fewer pictures than there are features, of very different sizes, some of them always 0: with a threshold relative to
    /// the neighbours on the diagonal the steps never ended on photographs.
    #[test]
    fn hundreds_of_rounding_errors_are_no_hindrance() {
        let (n, rank) = (320, 135);
        let mut rng = Rng::new(5);
        let size = |at: usize| match at / rank % 5 {
            0 => 0.0,
            part => 10f64.powi(2 - 2 * part as i32),
        };
        let columns: Vec<f64> = (0..n * rank).map(|at| size(at) * rng.normal()).collect();
        let entry =
            |i: usize, j: usize| dot(&columns[i * rank..][..rank], &columns[j * rank..][..rank]);
        let matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
        let trace: f64 = matrix.iter().step_by(n + 1).sum();
        let Eigen { values, .. } = symmetric_eigen(matrix, true).unwrap();
        let sum: f64 = values.iter().sum();
        assert!((sum - trace).abs() < 1e-12 * trace, "{sum} {trace}");
        assert!(values.iter().filter(|v| v.abs() > 1e-13 * trace).count() <= rank);
    }

    #[test]
    fn matrices_without_much_in_them() {
        for (matrix, n) in [
            (vec![0.0; 16], 4),
            (vec![2.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, -1.0], 3),
            (vec![1.0; 25], 5),
        ] {
            let (made, skew) = errors(&matrix, n);
            assert!(made < 1e-13 && skew < 1e-13, "{made}, {skew}");
        }
        let known = symmetric_eigen(vec![2.0, 1.0, 1.0, 2.0], false).unwrap();
        let (a, b) = (known.values[0], known.values[1]);
        assert!((a.min(b) - 1.0).abs() < 1e-15 && (a.max(b) - 3.0).abs() < 1e-15);
        assert!(symmetric_eigen(Vec::new(), true).unwrap().values.is_empty());
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        for bad in [
            vec![1.0; 3],
            vec![f64::NAN],
            vec![f64::INFINITY; 4],
            vec![1e200; 4],
        ] {
            assert!(symmetric_eigen(bad, true).is_err());
        }
    }
}
