//! The VQGAN encoder and decoder (Esser et al. 2021, as VQGAN-LC uses them), fully convolutional.
//!
//! Parameter names are those of published checkpoints. Tensors are NCHW f32 where they go in and come out.

mod attention;
mod decoder;
mod encoder;
mod fast;
mod layers;

pub use decoder::Decoder;
pub use encoder::Encoder;
