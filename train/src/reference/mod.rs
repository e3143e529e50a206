//! This crate's parts compared with an independent implementation's tensors; [`vqlc_model::reference`] says what they are.

pub mod vqgan_gradients;
