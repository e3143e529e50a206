//! Learnt positions on another grid.

use candle_core::{Device, Result, Tensor};

/// `stored` `[1, 1 + n, width]` for a grid of `rows` x `cols`: the class token's as it is, the others interpolated where theirs is another
/// grid. None where they are neither in a square nor as many as `wanted`, or of another width.
///
/// # Errors
/// A tensor operation's.
pub(super) fn positions_for(
    stored: &Tensor,
    wanted: &[usize],
    (rows, cols): (usize, usize),
) -> Result<Option<Tensor>> {
    let (&[1, all, width], &[_, _, wanted_width]) = (stored.dims(), wanted) else {
        return Ok(None);
    };
    let Some(patches) = all.checked_sub(1).filter(|_| width == wanted_width) else {
        return Ok(None);
    };
    let side = patches.isqrt();
    if side * side != patches || side == 0 {
        return Ok(Some(stored.clone()).filter(|stored| stored.dims() == wanted));
    }
    if (side, side) == (rows, cols) {
        return Ok(Some(stored.clone()));
    }
    let grid = stored.narrow(1, 1, patches)?;
    let (down, across) = (bicubic(side, rows)?, bicubic(side, cols)?);
    let grid = down.matmul(&grid.reshape((side, side * width))?)?;
    // [rows, side, width]: the same along each row.
    let grid = across
        .broadcast_left(rows)?
        .contiguous()?
        .matmul(&grid.reshape((rows, side, width))?)?;
    let grid = grid.reshape((1, rows * cols, width))?;
    Ok(Some(Tensor::cat(&[&stored.narrow(1, 0, 1)?, &grid], 1)?))
}

/// `[to, from]`: `to` values out of `from`, both spread over the same length, by the four nearest (Keys 1981) with a = -0.75 and the outermost
/// ones repeated beyond the ends, as MAE interpolates positions.
fn bicubic(from: usize, to: usize) -> Result<Tensor> {
    const A: f64 = -0.75;
    let weight = |distance: f64| match distance.abs() {
        d if d <= 1.0 => ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0,
        d if d < 2.0 => A * (((d - 5.0) * d + 8.0) * d - 4.0),
        _ => 0.0,
    };
    let mut weights = vec![0f32; to * from];
    for (row, weights) in weights.chunks_exact_mut(from).enumerate() {
        let centre = (row as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        for near in -1..=2 {
            let at = centre.floor() + f64::from(near);
            let column = at.clamp(0.0, (from - 1) as f64) as usize;
            weights[column] += weight(centre - at) as f32;
        }
    }
    Tensor::from_vec(weights, (to, from), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Result<Vec<f32>> {
        tensor.flatten_all()?.to_vec1()
    }

    /// A ramp stays one away from the borders, the class token's position is not touched, and the same grid is taken as it is.
    #[test]
    fn positions_are_interpolated_over_the_square() -> Result<()> {
        // With this a it is one but for 0.05.
        let ramp = |row: f64, col: f64| [row, col, row + 2.0 * col, 1.0];
        let grid = (0..8).flat_map(|row| (0..8).map(move |col| ramp(row.into(), col.into())));
        let all: Vec<f32> = std::iter::once([9.0; 4])
            .chain(grid)
            .flatten()
            .map(|x| x as f32)
            .collect();
        let stored = Tensor::from_vec(all, (1, 65, 4), &Device::Cpu)?;
        let (rows, cols) = (16, 12);
        let wanted = [1, 1 + rows * cols, 4];
        let found = positions_for(&stored, &wanted, (rows, cols))?.unwrap();
        assert_eq!(found.dims(), wanted);
        let found = found.squeeze(0)?.to_vec2::<f32>()?;
        assert_eq!(found[0], [9.0; 4]);
        let at = |i: usize, n: usize| (i as f64 + 0.5) * 8.0 / n as f64 - 0.5;
        for row in 4..rows - 4 {
            for col in 3..cols - 3 {
                let expected = ramp(at(row, rows), at(col, cols));
                for (a, b) in found[1 + row * cols + col].iter().zip(expected) {
                    assert!((f64::from(*a) - b).abs() < 0.15, "{a} {b}");
                }
            }
        }
        let same = positions_for(&stored, &[1, 65, 4], (8, 8))?.unwrap();
        assert_eq!(values(&same)?, values(&stored)?);
        Ok(())
    }

    /// Two values to four: a quarter and three quarters between them, and beyond the ends.
    #[test]
    fn weights_are_those_of_the_kernel() -> Result<()> {
        let (a, b, c, d) = (-0.105_468_75, 0.878_906_25, 0.261_718_75, -0.035_156_25);
        let expected = [
            [d + c + b, a],
            [a + b, c + d],
            [d + c, b + a],
            [a, b + c + d],
        ];
        let found = bicubic(2, 4)?.to_vec2::<f32>()?;
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                found
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() < 1e-6)
            );
        }
        Ok(())
    }
}
