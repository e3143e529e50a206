//! Fits VQGAN-LC tokenizers (arXiv 2406.11837): the codebook, the losses, the optimisers, the loop, and the metrics; and deals out token
//! files to what learns from ids.
//!
//! What this crate has no notion of: command lines and progress bars (it reports through a small trait).

pub mod ablation;
pub mod backbone;
pub mod checkpoint;
pub mod codebook;
pub mod config;
pub mod data;
pub mod diffusion;
pub mod dit;
pub mod error;
pub mod files;
pub mod gpt;
pub mod inspect;
pub mod learn;
pub mod losses;
pub mod measure;
pub mod metrics;
pub mod nn;
pub mod optim;
pub mod params;
pub mod quantizer;
pub mod reference;
pub mod run;
pub mod tokens;
pub mod trainer;
pub mod unet;
pub mod vit;
pub mod watch;

pub use config::TokenizerConfig;
pub use error::{Error, Result};
pub use params::Params;
