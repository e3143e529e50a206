//! How good a tokenizer is: PSNR and SSIM of reconstructions, Fréchet distance between features, usage of a codebook, what its ids carry.
//!
//! All in f64, and in one order whatever the number of threads.

mod adaptive;
mod eigen;
mod entropy;
mod frechet;
mod pictures;
mod usage;

pub use adaptive::CodeLengths;
pub use entropy::{Conditional, EntropyReport, IdStatistics};
pub use frechet::{Moments, frechet_distance};
pub use pictures::{Luma, Pair, Scores, SsimBorder};
pub use usage::{Usage, UsageShare, Window, write_counts};
