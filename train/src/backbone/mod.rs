//! Pretrained vision encoders.

mod efficientnet;
mod fd;
mod weights;

use std::path::Path;

use candle_core::{DType, Device};
use vqlc_model::params::StrictParams;

pub use efficientnet::{EfficientNet, spatial_mean};
pub use fd::fd_features;

use crate::Result;

/// Reads EfficientNet-Lite0 from `weights` (safetensors, or a PyTorch checkpoint by any other name) for `device`, its dense convolutions
/// multiplying in `compute`.
///
/// # Errors
/// A file that is not one, or whose tensors are not this network's.
pub fn efficientnet_lite0(weights: &Path, device: &Device, compute: DType) -> Result<EfficientNet> {
    let tensors = weights::read(weights, |_| true)?;
    let network =
        StrictParams::build_for(tensors.into(), device, compute, |vb| EfficientNet::new(&vb));
    network.map_err(|e| crate::Error::malformed(weights, e.to_string()))
}
