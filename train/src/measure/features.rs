//! Features that distances between sets of pictures are taken of.

use candle_core::DType;
use vqlc_model::image::Rgb;

use super::Judges;
use crate::{
    Result,
    backbone::{INCEPTION_FEATURES, fd_features},
    metrics::Moments,
};

/// The networks whose features make a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureNetwork {
    /// EfficientNet-Lite0: 320 numbers, of square pictures.
    EfficientNet,
    /// FID's Inception: 2,048 numbers.
    Inception,
}

impl FeatureNetwork {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::EfficientNet, Self::Inception];

    /// Numbers of a picture.
    pub fn dims(self) -> usize {
        match self {
            Self::EfficientNet => 320,
            Self::Inception => INCEPTION_FEATURES,
        }
    }

    /// Whether it takes square pictures only.
    pub fn squares_only(self) -> bool {
        match self {
            Self::EfficientNet => true,
            Self::Inception => false,
        }
    }

    /// Its name, as [`super::WeightsFile`] has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EfficientNet => "EfficientNet-Lite0",
            Self::Inception => "Inception",
        }
    }
}

/// What is kept of every picture, beside mean and covariance of them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The features: 4 bytes a number.
    pub features: bool,
    /// Inception's classes: 4 kB a picture.
    pub classes: bool,
}

/// What a network saw in a set of pictures.
#[derive(Clone)]
pub struct Cloud {
    network: FeatureNetwork,
    /// Mean and covariance.
    pub moments: Moments,
    keep: Keep,
    /// All features, `[pictures, dims]`, if they are kept.
    pub features: Vec<f32>,
    /// The classifier's output without its bias, `[pictures, 1008]`, if it is kept and the network is Inception.
    pub logits: Vec<f32>,
}

impl Cloud {
    /// One for each network that `judges` have.
    ///
    /// # Errors
    /// None that can be met.
    pub fn all(judges: &Judges, keep: Keep) -> Result<Vec<Self>> {
        let there = FeatureNetwork::ALL
            .into_iter()
            .filter(|network| judges.has(*network));
        there
            .map(|network| {
                Ok(Self {
                    network,
                    moments: Moments::new(network.dims())?,
                    keep,
                    features: Vec::new(),
                    logits: Vec::new(),
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
        let features = match self.network {
            FeatureNetwork::EfficientNet => (judges.efficientnet.as_ref())
                .map(|network| fd_features(network, pictures, &judges.device))
                .transpose()?,
            FeatureNetwork::Inception => match &judges.inception {
                Some(network) => {
                    let seen = network.features(pictures)?;
                    if self.keep.classes {
                        self.logits
                            .extend(seen.logits_without_bias.flatten_all()?.to_vec1::<f32>()?);
                    }
                    Some(seen.pool)
                }
                None => None,
            },
        };
        // No cloud is made where there is no network.
        let Some(features) = features else {
            return Ok(());
        };
        let features = features.flatten_all()?;
        self.moments
            .add(&features.to_dtype(DType::F64)?.to_vec1()?)?;
        if self.keep.features {
            self.features
                .extend(features.to_dtype(DType::F32)?.to_vec1::<f32>()?);
        }
        Ok(())
    }
}
