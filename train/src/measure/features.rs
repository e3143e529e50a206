//! Features that distances between sets of pictures are taken of.

use candle_core::DType;
use vqlc_model::image::Rgb;

use super::Judges;
use crate::{Result, backbone::fd_features, metrics::Moments};

/// The networks whose features make a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureNetwork {
    /// EfficientNet-Lite0: 320 numbers, of square pictures.
    EfficientNet,
}

impl FeatureNetwork {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::EfficientNet];

    /// Numbers of a picture.
    fn dims(self) -> usize {
        match self {
            Self::EfficientNet => 320,
        }
    }

    /// Whether it takes square pictures only.
    pub fn squares_only(self) -> bool {
        match self {
            Self::EfficientNet => true,
        }
    }

    /// What the Fréchet distance on it is called.
    pub fn distance(self) -> &'static str {
        match self {
            Self::EfficientNet => "FD-EffLite0",
        }
    }
}

/// What a network saw in a set of pictures.
#[derive(Clone)]
pub struct Cloud {
    network: FeatureNetwork,
    /// Mean and covariance.
    pub moments: Moments,
    /// All features, `[pictures, dims]`, where they were to be kept.
    pub kept: Option<Vec<f32>>,
}

impl Cloud {
    /// One for each network that `judges` have; `keep` also keeps every picture's features: 4 bytes a number.
    ///
    /// # Errors
    /// None that can be met.
    pub fn all(judges: &Judges, keep: bool) -> Result<Vec<Self>> {
        let there = FeatureNetwork::ALL
            .into_iter()
            .filter(|network| judges.has(*network));
        there
            .map(|network| {
                Ok(Self {
                    network,
                    moments: Moments::new(network.dims())?,
                    kept: keep.then(Vec::new),
                })
            })
            .collect()
    }

    /// Of which network.
    pub fn network(&self) -> FeatureNetwork {
        self.network
    }

    /// Adds pictures of any sizes that the network takes.
    ///
    /// # Errors
    /// A picture that it does not take; a tensor operation's.
    pub fn add(&mut self, judges: &Judges, pictures: &[Rgb]) -> Result<()> {
        let features = match (self.network, &judges.efficientnet) {
            (FeatureNetwork::EfficientNet, Some(network)) => {
                fd_features(network, pictures, &judges.device)?
            }
            // No cloud is made where there is no network.
            (FeatureNetwork::EfficientNet, None) => return Ok(()),
        };
        let features = features.flatten_all()?;
        self.moments
            .add(&features.to_dtype(DType::F64)?.to_vec1()?)?;
        if let Some(kept) = &mut self.kept {
            kept.extend(features.to_dtype(DType::F32)?.to_vec1::<f32>()?);
        }
        Ok(())
    }
}
