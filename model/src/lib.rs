//! The VQGAN-LC tokenizer (arXiv 2406.11837): pixels to token ids and back.
//!
//! What is here: the network as data ([`VqganConfig`]) and as layers ([`network`]), the quantizer's projected codebook,
//! model files with their digests ([`mod@file`]), their import from other forms ([`convert`]), the [`Tokenizer`] that ties
//! them together, and pictures in and out ([`image`]).
//!
//! What this crate has no notion of: token files, training, command lines.
//!
//! ```text
//! picture --image::read--> RGB --image::Preprocessing--> [3,h,w] in [-1,1]
//!    --encoder, quant_conv--> z [8,h/f,w/f] --nearest entry of B'--> ids [h/f,w/f]
//! ids --lookup in B'--> z_q [8,h/f,w/f] --post_quant_conv, decoder--> [3,h,w] --image::write--> picture
//! ```

pub mod config;
pub mod convert;
pub mod device;
pub mod devices;
pub mod digest;
pub mod error;
pub mod file;
pub mod image;
pub mod network;
pub mod params;
pub mod pickle;
pub mod precision;
pub mod reference;
pub mod rng;
pub mod tokenizer;

pub use config::VqganConfig;
pub use device::DeviceSpec;
pub use digest::ModelDigests;
pub use error::{Error, Result};
pub use precision::Precision;
pub use tokenizer::Tokenizer;
