//! This crate's parts compared with an independent implementation's tensors, on values and gradients (the parity tests,
//! `vqlc selftest --reference`); [`vqlc_model::reference`] says what the files are.

mod adam_steps;
mod adaptive_weight;
mod clip;
mod discriminator;
mod dit;
mod efficientnet;
mod gpt;
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
pub use ldm::compare_ldm;
pub use lpips::compare_lpips;
pub use metrics::compare_metrics;
pub use quantizer_variants::compare_quantizer_variants;
pub use vit::compare_vit;
pub use vqgan_gradients::compare_vqgan_gradients;
