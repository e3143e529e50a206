//! A projector that lays the codebook where the latents are, before any codebook loss has run.

use candle_core::{DType, Device, Tensor};
use nalgebra::{DMatrix, SymmetricEigen};

use super::nearest;
use crate::{Error, Result};

/// Least share of the greatest variance that a direction must have to be stretched to any other.
const LEAST_VARIANCE: f64 = 1e-9;

/// Mean and principal components of rows of numbers.
struct Cloud {
    mean: Vec<f64>,
    /// Variances along the components, greatest first.
    variances: Vec<f64>,
    /// The components, a column each, in that order.
    axes: DMatrix<f64>,
}

impl Cloud {
    /// Of `rows` `[m, d]`; the covariance is summed in f32 by one matrix product.
    fn of(rows: &Tensor) -> Result<Self> {
        let (count, dim) = rows.dims2()?;
        let rows = rows.to_dtype(DType::F32)?;
        let mean = rows.mean_keepdim(0)?;
        let centred = rows.broadcast_sub(&mean)?;
        let covariance = (centred.t()?.matmul(&centred)? / count as f64)?;
        let values = |t: &Tensor| -> Result<Vec<f64>> {
            let t = t.to_device(&Device::Cpu)?.flatten_all()?;
            Ok(t.to_dtype(DType::F64)?.to_vec1()?)
        };
        let covariance = values(&covariance)?;
        if covariance.iter().any(|x| !x.is_finite()) {
            return Err(refused("finite numbers", "NaN or infinity"));
        }
        let matrix = DMatrix::from_row_slice(dim, dim, &covariance);
        let matrix = (&matrix + matrix.transpose()) * 0.5;
        let eigen = SymmetricEigen::new(matrix);
        let mut order: Vec<usize> = (0..dim).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let axes = DMatrix::from_fn(dim, dim, |row, column| {
            eigen.eigenvectors[(row, order[column])]
        });
        let variances = order.iter().map(|&i| eigen.eigenvalues[i].max(0.0));
        Ok(Self {
            mean: values(&mean)?,
            variances: variances.collect(),
            axes,
        })
    }
}

/// Weight `[dim, D]` and bias `[dim]` (f32, on the CPU) of a projector P such that the projected codebook P(B), `book` `[N, D]`, has the
/// mean and covariance of the latents `z` `[m, dim]`: the `dim` strongest principal components of B, each brought to the variance of the
/// latents' component of the same rank and laid along it.
///
/// # Errors
/// [`Error::Argument`] for fewer than two rows, numbers that are not finite, or a codebook that varies in fewer than `dim` directions.
pub fn align_projector(book: &Tensor, z: &Tensor) -> Result<(Tensor, Tensor)> {
    let ((codes, width), (count, dim)) = (book.dims2()?, z.dims2()?);
    if codes < 2 || count < 2 || width < dim {
        return Err(refused(
            &format!("at least two latents, and two entries of at least {dim} numbers"),
            &format!("{count} latents and {codes} entries of {width} numbers"),
        ));
    }
    let (from, to) = (Cloud::of(book)?, Cloud::of(z)?);
    let least = LEAST_VARIANCE * from.variances[0];
    let flat = from.variances[..dim]
        .iter()
        .filter(|v| v.is_nan() || **v <= least)
        .count();
    if flat > 0 {
        return Err(refused(
            &format!("a codebook that varies in {dim} directions"),
            &format!("one that varies in {}", dim - flat),
        ));
    }
    let stretch = DMatrix::from_fn(dim, dim, |row, rank| {
        to.axes[(row, rank)] * (to.variances[rank] / from.variances[rank]).sqrt()
    });
    let weight = stretch * from.axes.columns(0, dim).transpose();
    let bias: Vec<f32> = (0..dim)
        .map(|row| {
            let moved: f64 = (0..width).map(|i| weight[(row, i)] * from.mean[i]).sum();
            (to.mean[row] - moved) as f32
        })
        .collect();
    // nalgebra stores columns one after the other.
    let rows: Vec<f32> = weight.transpose().iter().map(|&x| x as f32).collect();
    Ok((
        Tensor::from_vec(rows, (dim, width), &Device::Cpu)?,
        Tensor::from_vec(bias, dim, &Device::Cpu)?,
    ))
}

/// The relative quantization error of latents `z` `[m, dim]` with `table` `[N, dim]`: the mean of |z - z_q|^2 over the sum of the variances
/// of z's numbers. 0 is exact; 1 is no better than z's mean.
///
/// # Errors
/// Numbers that are not finite; shapes that do not fit.
pub fn relative_error(z: &Tensor, table: &Tensor) -> Result<f64> {
    let z = z.to_dtype(DType::F32)?.to_device(table.device())?.detach();
    let sum =
        |t: Tensor| -> Result<f64> { Ok(f64::from(t.sqr()?.mean_all()?.to_scalar::<f32>()?)) };
    let found = table.index_select(&nearest(&z, table)?, 0)?;
    let error = sum((&z - found)?)?;
    Ok(error / sum(z.broadcast_sub(&z.mean_keepdim(0)?)?)?.max(f64::MIN_POSITIVE))
}

fn refused(expected: &str, found: &str) -> Error {
    Error::Argument {
        what: "rows to be aligned",
        expected: expected.into(),
        found: found.into(),
    }
}

#[cfg(test)]
mod tests {
    use vqlc_model::rng::Rng;

    use super::*;

    /// Rows that are a random linear map of standard normal ones, moved.
    fn rows(count: usize, dim: usize, seed: u64) -> Result<Tensor> {
        let mut rng = Rng::new(seed);
        let mut draw = |shape: (usize, usize)| {
            let values: Vec<f32> = (0..shape.0 * shape.1)
                .map(|_| rng.normal() as f32)
                .collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        let (normal, map, shift) = (draw((count, dim))?, draw((dim, dim))?, draw((1, dim))?);
        Ok(normal.matmul(&map)?.broadcast_add(&shift)?)
    }

    fn moments(rows: &Tensor) -> Result<(Tensor, Tensor)> {
        let mean = rows.mean_keepdim(0)?;
        let centred = rows.broadcast_sub(&mean)?;
        Ok((
            mean,
            (centred.t()?.matmul(&centred)? / rows.dim(0)? as f64)?,
        ))
    }

    fn worst(a: &Tensor, b: &Tensor) -> Result<f32> {
        Ok((a - b)?.abs()?.max_all()?.to_scalar()?)
    }

    #[test]
    fn the_projected_codebook_has_the_latents_mean_and_covariance() -> Result<()> {
        let (book, z) = (rows(4000, 24, 1)?, rows(3000, 4, 2)?);
        let (weight, bias) = align_projector(&book, &z)?;
        let table = book.matmul(&weight.t()?)?.broadcast_add(&bias)?;
        let ((mean, covariance), (z_mean, z_covariance)) = (moments(&table)?, moments(&z)?);
        assert!(worst(&mean, &z_mean)? < 1e-4);
        assert!(worst(&covariance, &z_covariance)? < 1e-3);
        // 4,000 entries spread like the latents in 4 dimensions: a tenth of the variance is left at most. Unaligned: most of it.
        let error = relative_error(&z, &table)?;
        assert!(error < 0.1, "{error}");
        let far = relative_error(&z, &book.narrow(1, 0, 4)?.contiguous()?)?;
        assert!(far > 2.0 * error, "{far} {error}");
        Ok(())
    }

    #[test]
    fn a_codebook_of_too_few_directions_is_refused() -> Result<()> {
        let thin = rows(100, 2, 1)?;
        let flat = Tensor::cat(&[&thin, &thin.zeros_like()?, &thin], 1)?;
        let z = rows(100, 4, 2)?;
        assert!(align_projector(&flat, &z).is_err());
        assert!(align_projector(&thin, &z).is_err());
        assert!(align_projector(&(flat * f64::NAN)?, &z).is_err());
        Ok(())
    }
}
