//! Pretrained vision encoders: where codebooks come from, and what a perceptual loss and a Fréchet distance may be built on.

mod efficientnet;
mod fd;
mod kind;
mod weights;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use vqlc_model::params::StrictParams;

pub use efficientnet::{EfficientNet, spatial_mean};
pub use fd::fd_features;
pub use kind::{BackboneKind, Card};

use crate::{Error, Result};

/// Block group of EfficientNet-Lite0 whose outputs are patch features: 112 channels, stride 16.
const EFFICIENTNET_STAGE: usize = 4;

/// A backbone with its weights.
pub struct Backbone {
    kind: BackboneKind,
    network: Network,
    device: Device,
    digest: String,
}

enum Network {
    EfficientNet(EfficientNet),
}

impl Backbone {
    /// Reads the weights of a backbone.
    ///
    /// # Errors
    /// A file that is not one, or whose tensors are not this network's.
    pub fn open(kind: BackboneKind, weights: &Path, device: &Device) -> Result<Self> {
        let network = match kind {
            BackboneKind::EfficientNetLite0 => {
                Network::EfficientNet(efficientnet_lite0(weights, device, DType::F32)?)
            }
        };
        Ok(Self {
            kind,
            network,
            device: device.clone(),
            digest: weights::digest(weights)?,
        })
    }

    /// Which one it is.
    pub fn kind(&self) -> BackboneKind {
        self.kind
    }

    /// SHA-256 of the file of weights, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Patch features `[b, dim, grid, grid]` (see [`Card`]) of pictures `[b, 3, input, input]` in [-1, 1].
    ///
    /// # Errors
    /// Shapes that do not fit; a tensor operation's.
    pub fn features(&self, pictures: &Tensor) -> Result<Tensor> {
        let card = self.kind.card();
        let constant = |values: [f64; 3]| -> candle_core::Result<Tensor> {
            let values = values.map(|v| v as f32);
            Tensor::new(&values, &self.device)?.reshape((1, 3, 1, 1))
        };
        let x = pictures
            .affine(127.5, 127.5)?
            .broadcast_sub(&constant(card.mean)?)?
            .broadcast_div(&constant(card.deviation)?)?;
        let features = match &self.network {
            Network::EfficientNet(network) => network
                .stages(&x, EFFICIENTNET_STAGE)?
                .swap_remove(EFFICIENTNET_STAGE),
        };
        Ok(features)
    }
}

/// Reads EfficientNet-Lite0 from `weights` (safetensors, or a PyTorch checkpoint by any other name) for `device`, its dense convolutions
/// multiplying in `compute`.
///
/// # Errors
/// A file that is not one, or whose tensors are not this network's.
pub fn efficientnet_lite0(weights: &Path, device: &Device, compute: DType) -> Result<EfficientNet> {
    let tensors = weights::read(weights, |_| true)?;
    let network =
        StrictParams::build_for(tensors.into(), device, compute, |vb| EfficientNet::new(&vb));
    network.map_err(|e| Error::malformed(weights, e.to_string()))
}
