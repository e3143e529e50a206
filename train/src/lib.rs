//! Fits VQGAN-LC tokenizers (arXiv 2406.11837): the codebook, the losses, the optimisers, the loop, and the metrics.
//!
//! What this crate has no notion of: command lines and progress bars (it reports through a small trait).

pub mod backbone;
pub mod codebook;
pub mod data;
pub mod error;
pub mod losses;
pub mod params;
pub mod reference;

pub use error::{Error, Result};
pub use params::Params;
