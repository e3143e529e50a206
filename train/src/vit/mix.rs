//! Two pictures in one, as augmentation: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) on maps of tokens.

use candle_core::{Result, Tensor};
use vqlc_model::rng::Rng;

use crate::learn::Facts;

/// How the pictures of a batch are joined with those of the batch read backwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mix {
    /// Not at all.
    None,
    /// So much is the picture's own, everywhere.
    Blend(f64),
    /// A rectangle is the other's.
    Cut {
        rows: (usize, usize),
        cols: (usize, usize),
        own: f64,
    },
}

impl Mix {
    /// Draws how a batch is mixed; `mixup` and `cutmix` are parameters of symmetric beta distributions, 0 for never.
    pub(super) fn draw(mixup: f64, cutmix: f64, facts: &Facts, draws: &mut Rng) -> Self {
        let (rows, cols) = (facts.rows as usize, facts.cols as usize);
        let cuts = cutmix > 0.0 && (mixup == 0.0 || draws.uniform() < 0.5);
        match (cuts, mixup > 0.0) {
            (true, _) => {
                let own = beta(cutmix, draws);
                let side = (1.0 - own).sqrt();
                let rows_cut = window(rows, side, draws);
                let cols_cut = window(cols, side, draws);
                let cut = (rows_cut.1 * cols_cut.1) as f64 / (rows * cols) as f64;
                Self::Cut {
                    rows: rows_cut,
                    cols: cols_cut,
                    own: 1.0 - cut,
                }
            }
            (false, true) => Self::Blend(beta(mixup, draws)),
            (false, false) => Self::None,
        }
    }

    /// The share of each picture that is its own.
    pub(super) fn own(&self) -> f64 {
        match *self {
            Self::None => 1.0,
            Self::Blend(own) | Self::Cut { own, .. } => own,
        }
    }

    /// Maps `[b, channels, rows, cols]`, mixed.
    pub(super) fn maps(&self, maps: &Tensor) -> Result<Tensor> {
        match *self {
            Self::None => Ok(maps.clone()),
            Self::Blend(own) => (maps * own)? + (maps.flip(&[0])? * (1.0 - own))?,
            Self::Cut { rows, cols, .. } => {
                let (_, _, height, width) = maps.dims4()?;
                let within = |at: usize, (first, count): (usize, usize)| {
                    (first..first + count).contains(&at)
                };
                let other: Vec<f32> = (0..height * width)
                    .map(|at| within(at / width, rows) && within(at % width, cols))
                    .map(|other| f32::from(u8::from(other)))
                    .collect();
                let other = Tensor::from_vec(other, (1, 1, height, width), maps.device())?;
                let difference = (maps.flip(&[0])? - maps)?;
                maps + difference.broadcast_mul(&other)?
            }
        }
    }
}

/// First place and length of a window of about `share` of `all` places around a drawn one, cut off at the ends.
fn window(all: usize, share: f64, draws: &mut Rng) -> (usize, usize) {
    let half = share * all as f64 / 2.0;
    let middle = draws.uniform() * all as f64;
    let first = (middle - half).round().max(0.0) as usize;
    let end = ((middle + half).round().max(0.0) as usize).min(all);
    (first.min(end), end - first.min(end))
}

/// A number from the beta distribution with both parameters `a`, by way of two gamma distributions.
fn beta(a: f64, draws: &mut Rng) -> f64 {
    let (x, y) = (gamma(a, draws), gamma(a, draws));
    if x + y > 0.0 { x / (x + y) } else { 0.5 }
}

/// A number from the gamma distribution of shape `a` (Marsaglia and Tsang 2000).
fn gamma(a: f64, draws: &mut Rng) -> f64 {
    if a < 1.0 {
        let boost = (1.0 - draws.uniform()).powf(1.0 / a);
        return gamma(a + 1.0, draws) * boost;
    }
    let d = a - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = draws.normal();
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - draws.uniform();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn beta_has_its_moments() {
        let mut draws = Rng::new(5);
        for a in [0.3, 1.0, 4.0] {
            let values: Vec<f64> = (0..20_000).map(|_| beta(a, &mut draws)).collect();
            let mean = values.iter().sum::<f64>() / 20_000.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 20_000.0;
            let expected = 0.25 / (2.0 * a + 1.0);
            assert!((mean - 0.5).abs() < 0.01, "{a}: {mean}");
            assert!(
                (variance - expected).abs() < 0.005,
                "{a}: {variance} {expected}"
            );
        }
    }

    #[test]
    fn a_rectangle_is_the_others() -> Result<()> {
        let maps = Tensor::new(&[[[[1f32; 3]; 2]], [[[2f32; 3]; 2]]], &Device::Cpu)?;
        let cut = Mix::Cut {
            rows: (1, 1),
            cols: (0, 2),
            own: 1.0 - 2.0 / 6.0,
        };
        let made = cut.maps(&maps)?.flatten_all()?.to_vec1::<f32>()?;
        let expected = [1., 1., 1., 2., 2., 1., 2., 2., 2., 1., 1., 2.];
        assert_eq!(made, expected);
        let blended = Mix::Blend(0.75)
            .maps(&maps)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        assert_eq!((blended[0], blended[6]), (1.25, 1.75));
        Ok(())
    }
}
