//! Pictures as the network reads them.

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use vqlc_model::image::Rgb;

use crate::{Error, Result};

/// Rows and columns of the network's input.
const SIDE: usize = 299;

/// `[n, 3, 299, 299]`, f32 in [-1, 1], on `device`.
pub(super) fn tensor(pictures: &[Rgb], device: &Device) -> Result<Tensor> {
    let planes = pictures.par_iter().map(resized).collect::<Result<Vec<_>>>();
    let shape = (pictures.len(), 3, SIDE, SIDE);
    Ok(Tensor::from_vec(planes?.concat(), shape, device)?)
}

/// `[3, 299, 299]`
fn resized(picture: &Rgb) -> Result<Vec<f32>> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let bytes = width.checked_mul(height).and_then(|n| n.checked_mul(3));
    if picture.data.is_empty() || bytes != Some(picture.data.len()) {
        return Err(Error::Argument {
            what: "picture for Inception",
            expected: format!("3 x {width} x {height} bytes, and some"),
            found: picture.data.len().to_string(),
        });
    }
    let (rows, columns) = (taps(height), taps(width));
    let mut out = Vec::with_capacity(3 * SIDE * SIDE);
    for channel in 0..3 {
        let at =
            |y: usize, x: usize| f32::from(picture.data[(y * width + x) * 3 + channel]) / 255.0;
        for &(above, below, down) in &rows {
            out.extend(columns.iter().map(|&(left, right, across)| {
                let between = |y| at(y, left) * (1.0 - across) + at(y, right) * across;
                let value = between(above) * (1.0 - down) + between(below) * down;
                2.0 * value - 1.0
            }));
        }
    }
    Ok(out)
}

/// For each of the input's places along a side of `length`: the two places it lies between, and how near to the second.
fn taps(length: usize) -> Vec<(usize, usize, f32)> {
    let scale = length as f64 / SIDE as f64;
    (0..SIDE)
        .map(|i| {
            let place = (scale * (i as f64 + 0.5) - 0.5).max(0.0);
            let first = (place as usize).min(length - 1);
            let second = (first + 1).min(length - 1);
            (first, second, (place - first as f64) as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use vqlc_model::image::Icc;

    use super::*;

    fn picture(width: u32, height: u32, data: Vec<u8>) -> Rgb {
        Rgb {
            width,
            height,
            data,
            icc: Icc::None,
        }
    }

    #[test]
    fn a_picture_of_the_right_size_stays_and_two_pixels_are_joined_by_a_line() {
        let data: Vec<u8> = (0..SIDE * SIDE * 3).map(|i| (i * 31 % 256) as u8).collect();
        let out = resized(&picture(299, 299, data.clone())).unwrap();
        for (i, value) in out.iter().enumerate() {
            let byte = data[i % (SIDE * SIDE) * 3 + i / (SIDE * SIDE)];
            assert_eq!(*value, 2.0 * (f32::from(byte) / 255.0) - 1.0);
        }
        let out = resized(&picture(2, 1, vec![0, 0, 0, 255, 255, 255])).unwrap();
        let row = &out[..SIDE];
        assert_eq!((row[0], row[SIDE / 2], row[SIDE - 1]), (-1.0, 0.0, 1.0));
        // A quarter of the way across lies before the first pixel's centre.
        assert_eq!(row[SIDE / 4], -1.0);
        assert!(row.is_sorted());
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        assert!(resized(&picture(0, 0, vec![])).is_err());
        assert!(resized(&picture(2, 2, vec![0; 11])).is_err());
    }
}
