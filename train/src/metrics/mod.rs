//! How good a tokenizer is: PSNR and SSIM of reconstructions, Fréchet distance between features, usage of a codebook.
//!
//! All in f64, and in one order whatever the number of threads.

mod eigen;
mod frechet;
mod pictures;
mod usage;

pub use frechet::{Moments, frechet_distance};
pub use pictures::{Luma, Pair, Scores, SsimBorder};
pub use usage::{Usage, Window};
