//! Principal axes of a table: along them the boxes around groups of entries are smallest, so that most are ruled out.

/// An orthonormal change of coordinates, `y = R (x - mean)`, up to 16 dimensions. Computed in f64.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    dim: usize,
    mean: Vec<f64>,
    /// `[dim, dim]`, a row an axis.
    axes: Vec<f64>,
}

/// Rows looked at to find the axes. Any orthonormal axes give right answers, these just give fast ones.
const SAMPLE: usize = 16_384;

impl Rotation {
    /// The principal axes of a finite row-major table `[n, dim]`.
    pub(crate) fn principal(table: &[f32], dim: usize) -> Self {
        let step = (table.len() / dim).div_ceil(SAMPLE);
        let rows = || table.chunks_exact(dim).step_by(step);
        let count = rows().count() as f64;
        let mut mean = vec![0.0; dim];
        for row in rows() {
            for (mean, &x) in mean.iter_mut().zip(row) {
                *mean += f64::from(x) / count;
            }
        }
        let mut covariance = vec![0.0; dim * dim];
        for row in rows() {
            for i in 0..dim {
                let x = f64::from(row[i]) - mean[i];
                for j in i..dim {
                    covariance[i * dim + j] += x * (f64::from(row[j]) - mean[j]);
                }
            }
        }
        for i in 0..dim {
            for j in 0..i {
                covariance[i * dim + j] = covariance[j * dim + i];
            }
        }
        Self {
            dim,
            mean,
            axes: eigenvectors(covariance, dim),
        }
    }

    /// `R (x - mean)` into `y[..dim]`, and its length.
    #[inline]
    pub(crate) fn apply(&self, x: &[f32], y: &mut [f32]) -> f32 {
        let mut centred = [0.0; super::MAX_TREE_DIM];
        for ((centred, &x), mean) in centred.iter_mut().zip(x).zip(&self.mean) {
            *centred = f64::from(x) - mean;
        }
        let mut square = 0.0;
        for (y, axis) in y.iter_mut().zip(self.axes.chunks_exact(self.dim)) {
            let dot: f64 = axis.iter().zip(&centred).map(|(a, x)| a * x).sum();
            square += dot * dot;
            *y = dot as f32;
        }
        square.sqrt() as f32
    }
}

/// Eigenvectors of a symmetric matrix, as rows, by cyclic Jacobi rotations. Orthonormal to about 1e-14 whatever the matrix holds.
fn eigenvectors(mut a: Vec<f64>, dim: usize) -> Vec<f64> {
    const SWEEPS: usize = 12;
    let mut v: Vec<f64> = (0..dim * dim)
        .map(|i| if i / dim == i % dim { 1.0 } else { 0.0 })
        .collect();
    for _ in 0..SWEEPS {
        for p in 0..dim {
            for q in p + 1..dim {
                let (off, app, aqq) = (a[p * dim + q], a[p * dim + p], a[q * dim + q]);
                if off.abs() <= 1e-14 * (app.abs() * aqq.abs()).sqrt() {
                    continue;
                }
                let theta = (2.0 * off).atan2(aqq - app) / 2.0;
                let (sin, cos) = theta.sin_cos();
                for i in 0..dim {
                    let (x, y) = (a[i * dim + p], a[i * dim + q]);
                    (a[i * dim + p], a[i * dim + q]) = (cos * x - sin * y, sin * x + cos * y);
                }
                for i in 0..dim {
                    let (x, y) = (a[p * dim + i], a[q * dim + i]);
                    (a[p * dim + i], a[q * dim + i]) = (cos * x - sin * y, sin * x + cos * y);
                    let (x, y) = (v[p * dim + i], v[q * dim + i]);
                    (v[p * dim + i], v[q * dim + i]) = (cos * x - sin * y, sin * x + cos * y);
                }
            }
        }
    }
    v
}
