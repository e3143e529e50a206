//! Parts of training against tensors of an independent implementation, on values and gradients (`vqlc selftest --reference`, the
//! parity tests). Each function runs one file of a reference folder; see [`vqlc_model::reference`].

mod adam_steps;

pub use adam_steps::compare_adam_steps;
//! This crate's parts compared with an independent implementation's tensors; [`vqlc_model::reference`] says what they are.

pub mod vqgan_gradients;
//! This crate's parts against tensors of an independent implementation (see [`vqlc_model::reference`]).

mod efficientnet;

pub use efficientnet::compare_efficientnet;
