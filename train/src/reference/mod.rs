//! This crate's parts compared with an independent implementation's tensors, on values and gradients (the parity tests,
//! `vqlc selftest --reference`); [`vqlc_model::reference`] says what the files are.

mod adam_steps;
mod adaptive_weight;
mod clip;
mod discriminator;
mod dit;
mod efficientnet;
mod gpt;
mod inception;
mod judges;
mod ldm;
mod lpips;
mod metrics;
mod quantizer_variants;
mod vit;
mod vqgan_gradients;

pub use adam_steps::compare_adam_steps;
pub use adaptive_weight::compare_adaptive_weight;
pub use clip::{compare_clip, compare_clip_rn50};
pub use discriminator::compare_discriminator;
pub use dit::compare_dit;
pub use efficientnet::compare_efficientnet;
pub use gpt::compare_gpt;
pub use inception::compare_inception;
pub use judges::compare_judges;
pub use ldm::compare_ldm;
pub use lpips::{compare_lpips, compare_lpips_alex};
pub use metrics::compare_metrics;
pub use quantizer_variants::compare_quantizer_variants;
pub use vit::compare_vit;
pub use vqgan_gradients::compare_vqgan_gradients;

use std::path::Path;

use candle_core::Device;
use vqlc_model::reference::Comparison;

use crate::Result;

/// Compares one file of a folder on a device.
pub type Compare = fn(&Path, &Device) -> Result<Vec<Comparison>>;

/// The files of a reference folder that this crate's parts are compared with, and how. (EfficientNet's needs its weights, and the
/// metrics know no device.)
pub const CASES: [(&str, Compare); 14] = [
    ("adam_steps.safetensors", compare_adam_steps),
    ("adaptive_weight.safetensors", compare_adaptive_weight),
    ("clip_vision.safetensors", compare_clip),
    ("discriminator.safetensors", compare_discriminator),
    ("dit.safetensors", compare_dit),
    ("gpt.safetensors", compare_gpt),
    ("inception.safetensors", compare_inception),
    ("judges.safetensors", compare_judges),
    ("ldm.safetensors", compare_ldm),
    ("lpips.safetensors", compare_lpips),
    ("lpips_alex.safetensors", compare_lpips_alex),
    ("quantizer_variants.safetensors", compare_quantizer_variants),
    ("vqgan.safetensors", compare_vqgan_gradients),
    ("vit.safetensors", compare_vit),
];
