//! PSNR and SSIM of a picture and its reconstruction.

use crate::{Error, Result};

/// Taps of the Gaussian window on either side of its middle.
const REACH: usize = 5;

/// Taps of the Gaussian window, and with it the least side of a picture.
pub const SSIM_SIDE: usize = 2 * REACH + 1;

/// Bytes that [`Pair::ssim`] takes for each pixel while it works: seven planes of f64, and the rows of one.
pub const SSIM_BYTES: u64 = 80;

/// Which positions of the 11 x 11 window SSIM is averaged over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SsimBorder {
    /// Those where it lies inside the picture, as Wang et al. (2004) and scikit-image do. (The latter filters a picture that it
    /// extends, but then leaves the border of 5 pixels out, which is the same.) Pictures need 11 pixels a side.
    #[default]
    Valid,
    /// All; outside the picture there is 0.
    Zero,
    /// All; outside, the picture is mirrored and its edge repeated (d c b a | a b c d).
    Reflect,
}

/// How the luma `Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255` (ITU-R BT.601, 8-bit R, G, B) is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Luma {
    /// As it is.
    #[default]
    Exact,
    /// Rounded to integers first, as programs do that keep it in 8 bit.
    Rounded,
}

/// Two 8-bit RGB pictures of one size, [height, width, 3].
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    a: &'a [u8],
    b: &'a [u8],
    width: usize,
    height: usize,
}

impl<'a> Pair<'a> {
    /// Of pictures of `width` x `height` pixels.
    ///
    /// # Errors
    /// [`Error::Argument`] unless both have 3 `width` `height` bytes, and some.
    pub fn new(a: &'a [u8], b: &'a [u8], width: usize, height: usize) -> Result<Self> {
        let expected = width
            .checked_mul(height)
            .and_then(|pixels| pixels.checked_mul(3))
            .filter(|&bytes| bytes > 0 && a.len() == bytes && b.len() == bytes);
        match expected {
            Some(_) => Ok(Self {
                a,
                b,
                width,
                height,
            }),
            None => Err(Error::Argument {
                what: "pair of pictures",
                expected: format!("3 x {width} x {height} bytes each"),
                found: format!("{} and {} bytes", a.len(), b.len()),
            }),
        }
    }

    /// `10 log10(255^2 / mse)` in dB, the mean over all pixels and channels; infinite for equal pictures.
    pub fn psnr(&self) -> f64 {
        let squares: u64 = self
            .a
            .iter()
            .zip(self.b)
            .map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2))
            .sum();
        decibels(squares as f64 / self.a.len() as f64)
    }

    /// The same of the luma, with a peak of 255.
    pub fn psnr_luma(&self, luma: Luma) -> f64 {
        let value = |rgb: &[u8]| {
            let weights = [65.481, 128.553, 24.966];
            let sum: f64 = rgb
                .iter()
                .zip(weights)
                .map(|(&v, w)| f64::from(v) * w)
                .sum();
            let y = 16.0 + sum / 255.0;
            match luma {
                Luma::Exact => y,
                Luma::Rounded => y.round(),
            }
        };
        let pixels = self.a.chunks_exact(3).zip(self.b.chunks_exact(3));
        let squares: f64 = pixels.map(|(a, b)| (value(a) - value(b)).powi(2)).sum();
        decibels(squares / (self.width * self.height) as f64)
    }

    /// Structural similarity (Wang, Bovik, Sheikh, Simoncelli, 2004) on values from 0 to 1: Gaussian window of 11 x 11 with sigma 1.5,
    /// K1 = 0.01, K2 = 0.03, variances divided by the sum of the weights; the mean over positions and channels.
    ///
    /// # Errors
    /// [`Error::Argument`] under [`SsimBorder::Valid`] if a side is below 11 pixels.
    pub fn ssim(&self, border: SsimBorder) -> Result<f64> {
        if border == SsimBorder::Valid && self.width.min(self.height) < SSIM_SIDE {
            return Err(Error::Argument {
                what: "pictures for SSIM",
                expected: "at least 11 pixels a side".into(),
                found: format!("{} x {}", self.width, self.height),
            });
        }
        let mut total = 0.0;
        for channel in 0..3 {
            let plane = |data: &[u8]| -> Vec<f64> {
                let values = data.iter().skip(channel).step_by(3);
                values.map(|&v| f64::from(v) / 255.0).collect()
            };
            total += self.ssim_of_planes(&plane(self.a), &plane(self.b), border);
        }
        Ok(total / 3.0)
    }

    fn ssim_of_planes(&self, a: &[f64], b: &[f64], border: SsimBorder) -> f64 {
        let mean = |of: &dyn Fn(f64, f64) -> f64| {
            let values: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| of(a, b)).collect();
            blurred(&values, self.width, self.height, border)
        };
        let (mean_a, mean_b) = (mean(&|a, _| a), mean(&|_, b| b));
        let (square_a, square_b) = (mean(&|a, _| a * a), mean(&|_, b| b * b));
        let product = mean(&|a, b| a * b);
        const C1: f64 = 0.01 * 0.01;
        const C2: f64 = 0.03 * 0.03;
        let total: f64 = (0..mean_a.len())
            .map(|i| {
                let (ma, mb) = (mean_a[i], mean_b[i]);
                let (va, vb) = (square_a[i] - ma * ma, square_b[i] - mb * mb);
                let covariance = product[i] - ma * mb;
                (2.0 * ma * mb + C1) * (2.0 * covariance + C2)
                    / ((ma * ma + mb * mb + C1) * (va + vb + C2))
            })
            .sum();
        total / mean_a.len() as f64
    }
}

fn decibels(mse: f64) -> f64 {
    10.0 * (255.0 * 255.0 / mse).log10()
}

/// A plane filtered with the window, rows first.
fn blurred(plane: &[f64], width: usize, height: usize, border: SsimBorder) -> Vec<f64> {
    let rows: Vec<f64> = plane
        .chunks_exact(width)
        .flat_map(|row| filtered(width, border, |i| row[i]))
        .collect();
    let columns = rows.len() / height;
    let mut out = vec![0.0; filtered_length(height, border) * columns];
    for x in 0..columns {
        let column = filtered(height, border, |i| rows[i * columns + x]);
        for (y, value) in column.enumerate() {
            out[y * columns + x] = value;
        }
    }
    out
}

fn filtered_length(length: usize, border: SsimBorder) -> usize {
    match border {
        SsimBorder::Valid => length - 2 * REACH,
        SsimBorder::Zero | SsimBorder::Reflect => length,
    }
}

/// A line of `length` values filtered with the Gaussian.
fn filtered(
    length: usize,
    border: SsimBorder,
    value: impl Fn(usize) -> f64,
) -> impl Iterator<Item = f64> {
    let weights = gaussian();
    let start = if border == SsimBorder::Valid {
        REACH
    } else {
        0
    };
    let at = move |place: isize| {
        if let Some(i) = usize::try_from(place).ok().filter(|&i| i < length) {
            return value(i);
        }
        match border {
            SsimBorder::Valid | SsimBorder::Zero => 0.0,
            // The mirrored line repeats after twice its length, for lines shorter than the window.
            SsimBorder::Reflect => {
                let folded = place.rem_euclid(2 * length as isize) as usize;
                value(folded.min(2 * length - 1 - folded))
            }
        }
    };
    (start..start + filtered_length(length, border)).map(move |middle| {
        let first = middle as isize - REACH as isize;
        let taps = weights.iter().zip(first..);
        taps.map(|(weight, place)| weight * at(place)).sum()
    })
}

fn gaussian() -> [f64; SSIM_SIDE] {
    let raw: [f64; SSIM_SIDE] = std::array::from_fn(|i| {
        let distance = i as f64 - REACH as f64;
        (-distance * distance / (2.0 * 1.5 * 1.5)).exp()
    });
    let sum: f64 = raw.iter().sum();
    raw.map(|weight| weight / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pictures_and_refused_ones() {
        let picture: Vec<u8> = (0..12 * 11 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let pair = Pair::new(&picture, &picture, 12, 11).unwrap();
        assert_eq!(pair.psnr(), f64::INFINITY);
        assert_eq!(pair.psnr_luma(Luma::Rounded), f64::INFINITY);
        for border in [SsimBorder::Valid, SsimBorder::Zero, SsimBorder::Reflect] {
            assert!((pair.ssim(border).unwrap() - 1.0).abs() < 1e-12);
        }
        assert!(Pair::new(&picture, &picture, 12, 12).is_err());
        assert!(Pair::new(&[], &[], 0, 5).is_err());
        let small = Pair::new(&picture[..90], &picture[..90], 6, 5).unwrap();
        assert!(small.ssim(SsimBorder::Valid).is_err());
        assert!(small.ssim(SsimBorder::Reflect).is_ok());
    }
}
