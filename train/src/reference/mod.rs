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
