//! Parts of training against tensors of an independent implementation, on values and gradients (`vqlc selftest --reference`, the
//! parity tests). Each module runs one file of a reference folder; see [`vqlc_model::reference`].

pub mod adam_steps;
pub mod discriminator;
pub mod lpips;
pub mod quantizer_variants;
pub mod vqgan_gradients;
//! This crate's parts compared with an independent implementation's tensors; [`vqlc_model::reference`] says what they are.

mod adam_steps;
mod efficientnet;
mod vqgan_gradients;

pub use adam_steps::compare_adam_steps;
pub use efficientnet::compare_efficientnet;
pub use vqgan_gradients::compare_vqgan_gradients;
//! Parts of training against an independent implementation; see [`vqlc_model::reference`].

mod metrics;

pub use metrics::compare_metrics;
