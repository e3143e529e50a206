//! The networks that pictures are judged by, as far as the user has their weights.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device};
use serde::Serialize;

use super::FeatureNetwork;
use crate::{
    Error, Result,
    backbone::{EfficientNet, InceptionV3, efficientnet_lite0, weights},
    losses::lpips::Lpips,
    metrics::SSIM_SIDE,
};

/// Files of weights.
#[derive(Clone, Debug, Default)]
pub struct JudgeFiles {
    /// EfficientNet-Lite0.
    pub efficientnet: Option<PathBuf>,
    /// VGG16 and LPIPS's linear layers on it: one file each, or one that holds both.
    pub lpips_vgg: Vec<PathBuf>,
    /// AlexNet and LPIPS's linear layers on it, likewise.
    pub lpips_alex: Vec<PathBuf>,
    /// FID's Inception.
    pub inception: Option<PathBuf>,
}

/// A file of weights, as a protocol names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightsFile {
    /// The network.
    pub network: &'static str,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

impl fmt::Display for WeightsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} weights {:.16}", self.network, self.sha256)
    }
}

/// The networks. They are always f32, whatever the judged network was trained in.
pub struct Judges {
    pub(super) device: Device,
    pub(super) efficientnet: Option<EfficientNet>,
    pub(super) lpips_vgg: Option<Lpips>,
    pub(super) lpips_alex: Option<Lpips>,
    pub(super) inception: Option<InceptionV3>,
    used: Vec<WeightsFile>,
}

impl Judges {
    /// Reads the networks named, for `device`.
    ///
    /// # Errors
    /// Files that cannot be read or hold other networks.
    pub fn open(files: &JudgeFiles, device: &Device) -> Result<Self> {
        let mut judges = Self::none(device);
        if let Some(path) = &files.efficientnet {
            judges.efficientnet = Some(efficientnet_lite0(path, device, DType::F32)?);
            judges.uses(FeatureNetwork::EfficientNet.name(), path)?;
        }
        judges.lpips_vgg = judges.lpips("vgg", "LPIPS-VGG16", &files.lpips_vgg)?;
        judges.lpips_alex = judges.lpips("alex", "LPIPS-AlexNet", &files.lpips_alex)?;
        if let Some(path) = &files.inception {
            judges.inception = Some(InceptionV3::read(path, device)?);
            judges.uses(FeatureNetwork::Inception.name(), path)?;
        }
        Ok(judges)
    }

    /// No networks: PSNR and SSIM only.
    pub fn none(device: &Device) -> Self {
        Self {
            device: device.clone(),
            efficientnet: None,
            lpips_vgg: None,
            lpips_alex: None,
            inception: None,
            used: Vec::new(),
        }
    }

    /// LPIPS on the network that `net` names, where there are files of it.
    fn lpips(&mut self, net: &str, name: &'static str, files: &[PathBuf]) -> Result<Option<Lpips>> {
        let Some(first) = files.first() else {
            return Ok(None);
        };
        let network = Lpips::read(files, &self.device, DType::F32)?;
        if network.name() != net {
            let reason = format!("expected the weights of {name}, found another network's");
            return Err(Error::malformed(first, reason));
        }
        for path in files {
            self.uses(name, path)?;
        }
        Ok(Some(network))
    }

    fn uses(&mut self, network: &'static str, path: &Path) -> Result<()> {
        let sha256 = weights::digest(path)?;
        self.used.push(WeightsFile { network, sha256 });
        Ok(())
    }

    /// Whether there is this network.
    pub fn has(&self, network: FeatureNetwork) -> bool {
        match network {
            FeatureNetwork::EfficientNet => self.efficientnet.is_some(),
            FeatureNetwork::Inception => self.inception.is_some(),
        }
    }

    /// Pixels that the shorter side of a picture must have to be compared: the window of SSIM, or a network's least.
    pub fn least_side(&self) -> u32 {
        let lpips = [&self.lpips_vgg, &self.lpips_alex];
        let networks = lpips.into_iter().flatten().map(Lpips::least_side);
        networks.fold(SSIM_SIDE, usize::max) as u32
    }

    /// The files of weights that were read.
    pub fn used(&self) -> &[WeightsFile] {
        &self.used
    }
}
