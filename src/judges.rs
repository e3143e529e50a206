//! The options that name the networks pictures are judged by.

use std::path::PathBuf;

use clap::Args;
use vqlc_train::measure::JudgeFiles;

/// Weights that the user has; what is not named is not measured.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct JudgeArgs {
    /// EfficientNet-Lite0's weights: perceptual distance and Fréchet distance FD-EffLite0
    #[arg(long, value_name = "FILE")]
    efficientnet: Option<PathBuf>,
    /// LPIPS on VGG16: torchvision's weights and the lpips package's vgg.pth, once for each file
    #[arg(long, value_name = "FILE")]
    lpips_vgg: Vec<PathBuf>,
    /// FID's Inception, pytorch-fid's pt_inception-2015-12-05-6726825d.pth: rFID, FID, Inception Score
    #[arg(long, value_name = "FILE")]
    inception: Option<PathBuf>,
}

impl JudgeArgs {
    /// The files that were named.
    pub(crate) fn files(&self) -> JudgeFiles {
        JudgeFiles {
            efficientnet: self.efficientnet.clone(),
            lpips_vgg: self.lpips_vgg.clone(),
            inception: self.inception.clone(),
        }
    }
}
