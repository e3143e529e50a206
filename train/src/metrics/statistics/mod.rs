//! What a Fréchet distance needs of a set of pictures, kept in a file: pytorch-fid's `.npz`.

mod npz;

use std::{borrow::Cow, path::Path};

use serde::{Deserialize, Serialize};

use super::Moments;
use crate::{Error, Result};

/// Features that a file may have at most: its covariance then takes 512 MiB.
const MAX_FEATURES: usize = 8192;
/// How far a covariance's two halves may be apart, in shares of the two deviations: f32 files are rounded.
const SYMMETRY: f64 = 1e-5;

/// A mean `[d]` and a covariance `[d, d]`, row-major.
pub type MeanAndCovariance<'a> = (Cow<'a, [f64]>, Cow<'a, [f64]>);

/// What a Gaussian is fitted to.
pub trait Gaussian {
    /// Both.
    ///
    /// # Errors
    /// [`Error::Argument`] where they cannot be had, as of fewer than two vectors.
    fn gaussian(&self) -> Result<MeanAndCovariance<'_>>;
}

impl Gaussian for Moments {
    fn gaussian(&self) -> Result<MeanAndCovariance<'_>> {
        Ok((self.mean().into(), self.covariance()?.into()))
    }
}

impl Gaussian for Statistics {
    fn gaussian(&self) -> Result<MeanAndCovariance<'_>> {
        Ok((
            self.mean.as_slice().into(),
            self.covariance.as_slice().into(),
        ))
    }
}

/// Where statistics come from. pytorch-fid's own files do not say; it passes over what ours do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Feature vectors they were taken of.
    pub count: u64,
    /// The network that made the vectors, by name.
    pub network: String,
    /// SHA-256 of its file of weights, in lower-case hexadecimal.
    pub weights: String,
    /// How pictures were prepared for it, in words or as a digest.
    pub protocol: String,
}

/// Mean and unbiased covariance of feature vectors; finite, and of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    mean: Vec<f64>,
    covariance: Vec<f64>,
    provenance: Option<Provenance>,
}

impl Statistics {
    /// Of a mean `[d]` and a covariance `[d, d]`, row-major.
    ///
    /// # Errors
    /// [`Error::Argument`] for d of 0 or above 8,192, lengths that do not fit, values that are not finite, variances below 0, or a
    /// matrix that is not symmetric.
    pub fn new(
        mean: Vec<f64>,
        covariance: Vec<f64>,
        provenance: Option<Provenance>,
    ) -> Result<Self> {
        let d = mean.len();
        let refused = |expected: &str, found: String| {
            Err(Error::Argument {
                what: "statistics of features",
                expected: expected.into(),
                found,
            })
        };
        if !(1..=MAX_FEATURES).contains(&d) || covariance.len() != d * d {
            let found = format!("{d} and {} numbers", covariance.len());
            return refused("a mean of 1 to 8192 numbers and its covariance", found);
        }
        if !mean.iter().chain(&covariance).all(|v| v.is_finite()) {
            return refused("finite numbers", "others".into());
        }
        for i in 0..d {
            let variance = covariance[i * d + i];
            if variance < 0.0 {
                return refused("variances of at least 0", format!("{variance} at {i}"));
            }
            for j in 0..i {
                let (a, b) = (covariance[i * d + j], covariance[j * d + i]);
                let scale = (variance * covariance[j * d + j].max(0.0)).sqrt();
                // Nothing lies beyond the deviations' product but rounding errors of a variance that is 0.
                if (a - b).abs() > SYMMETRY * scale.max(f64::MIN_POSITIVE) {
                    return refused("a symmetric covariance", format!("{a} and {b} at {i}, {j}"));
                }
            }
        }
        Ok(Self {
            mean,
            covariance,
            provenance,
        })
    }

    /// Of vectors collected by `network`, whose file of weights has the digest `weights`, under `protocol` (see [`Provenance`]).
    ///
    /// # Errors
    /// [`Error::Argument`] for fewer than two vectors, or as [`Self::new`].
    pub fn of(moments: &Moments, network: &str, weights: &str, protocol: &str) -> Result<Self> {
        let provenance = Provenance {
            count: moments.count(),
            network: network.into(),
            weights: weights.into(),
            protocol: protocol.into(),
        };
        Self::new(moments.mean(), moments.covariance()?, Some(provenance))
    }

    /// Reads an `.npz` file with the arrays `mu` `[d]` and `sigma` `[d, d]`, f64 or f32, stored or deflated; where vqlc wrote it, also its
    /// [`Provenance`]. Other arrays are passed over.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] for a file that is none, or whose numbers [`Self::new`] refuses.
    pub fn read(path: &Path) -> Result<Self> {
        npz::read(path)
    }

    /// Writes such a file; the same statistics always give the same bytes.
    ///
    /// # Errors
    /// [`Error::Io`]; what is there stays then.
    pub fn write(&self, path: &Path) -> Result<()> {
        npz::write(self, path)
    }

    /// Numbers of a feature.
    pub fn features(&self) -> usize {
        self.mean.len()
    }

    /// Where they come from, if it is known.
    pub fn provenance(&self) -> Option<&Provenance> {
        self.provenance.as_ref()
    }

    /// Whether they are known to be of the same network, weights and protocol; false where the file does not say.
    ///
    /// # Errors
    /// [`Error::Argument`] where they are known to be of others: a distance between the two would mean nothing.
    pub fn expect(&self, network: &str, weights: &str, protocol: &str) -> Result<bool> {
        let Some(found) = &self.provenance else {
            return Ok(false);
        };
        for (what, expected, found) in [
            ("the statistics' network", network, &found.network),
            (
                "the weights' digest in the statistics",
                weights,
                &found.weights,
            ),
            ("the statistics' protocol", protocol, &found.protocol),
        ] {
            if expected != found {
                return Err(Error::Argument {
                    what,
                    expected: expected.into(),
                    found: found.clone(),
                });
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
