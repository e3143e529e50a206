//! The options that name the networks pictures are judged by.

use std::path::PathBuf;

use clap::Args;
use vqlc_train::measure::JudgeFiles;

/// Networks whose features make distributions. What is not named is not measured.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FeatureArgs {
    /// EfficientNet-Lite0's weights: the Fréchet distance FD-EffLite0; of pairs also the perceptual distance
    #[arg(long, value_name = "FILE")]
    efficientnet: Option<PathBuf>,
    /// FID's Inception, pytorch-fid's pt_inception-2015-12-05-6726825d.pth: FID; of pairs, rFID
    #[arg(long, value_name = "FILE")]
    inception: Option<PathBuf>,
}

impl FeatureArgs {
    /// The files that were named.
    pub(crate) fn files(&self) -> JudgeFiles {
        JudgeFiles {
            efficientnet: self.efficientnet.clone(),
            inception: self.inception.clone(),
            ..JudgeFiles::default()
        }
    }

    /// Whether one was named, or both.
    pub(crate) fn any(&self) -> bool {
        self.efficientnet.is_some() || self.inception.is_some()
    }

    /// Whether one was named and not both.
    pub(crate) fn one(&self) -> bool {
        self.efficientnet.is_some() != self.inception.is_some()
    }
}

/// The same, and networks that compare picture with picture.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct JudgeArgs {
    #[command(flatten)]
    features: FeatureArgs,
    /// LPIPS on VGG16: torchvision's weights and the lpips package's vgg.pth, once for each file
    #[arg(long, value_name = "FILE")]
    lpips_vgg: Vec<PathBuf>,
    /// LPIPS on AlexNet: torchvision's weights and the lpips package's alex.pth, once for each file
    #[arg(long, value_name = "FILE")]
    lpips_alex: Vec<PathBuf>,
}

impl JudgeArgs {
    /// The files that were named.
    pub(crate) fn files(&self) -> JudgeFiles {
        JudgeFiles {
            lpips_vgg: self.lpips_vgg.clone(),
            lpips_alex: self.lpips_alex.clone(),
            ..self.features.files()
        }
    }
}
