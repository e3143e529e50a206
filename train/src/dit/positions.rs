//! Positions that are not learnt.

use candle_core::{Device, Result, Tensor};

/// Positions of a grid as waves, `[1, rows cols, width]` (f32), row by row: with w = 10000^(-j / (width / 4)) for j from 0 the sines of column
/// times w, the cosines, then both of the row (Dosovitskiy et al. 2021, appendix D.4, fixed as in the code of DiT).
///
/// # Errors
/// A width that is no multiple of 4.
pub(crate) fn fixed_positions(
    rows: usize,
    cols: usize,
    width: usize,
    device: &Device,
) -> Result<Tensor> {
    if !width.is_multiple_of(4) {
        candle_core::bail!("positions take a multiple of 4 numbers, not {width}");
    }
    let quarter = width / 4;
    let omega = |j: usize| 10_000f64.powf(-(j as f64) / quarter as f64);
    let mut values = Vec::with_capacity(rows * cols * width);
    for row in 0..rows {
        for col in 0..cols {
            for at in [col, row] {
                let angle = |j| at as f64 * omega(j);
                values.extend((0..quarter).map(|j| angle(j).sin() as f32));
                values.extend((0..quarter).map(|j| angle(j).cos() as f32));
            }
        }
    }
    Tensor::from_vec(values, (1, rows * cols, width), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a grid that is not square; the reference has a square one.
    #[test]
    fn each_token_has_the_waves_of_its_row_and_column() -> Result<()> {
        let found = fixed_positions(2, 3, 8, &Device::Cpu)?
            .squeeze(0)?
            .to_vec2::<f32>()?;
        assert_eq!(found.len(), 6);
        for (token, found) in found.iter().enumerate() {
            let (row, col) = ((token / 3) as f64, (token % 3) as f64);
            let w = 0.01;
            let expected = [
                col.sin(),
                (col * w).sin(),
                col.cos(),
                (col * w).cos(),
                row.sin(),
                (row * w).sin(),
                row.cos(),
                (row * w).cos(),
            ];
            for (a, b) in found.iter().zip(expected) {
                assert!((f64::from(*a) - b).abs() < 1e-6, "token {token}: {found:?}");
            }
        }
        assert!(fixed_positions(2, 3, 6, &Device::Cpu).is_err());
        Ok(())
    }
}
