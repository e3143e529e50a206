//! How good a tokenizer is: PSNR and SSIM of reconstructions, Fréchet distance between features, usage of a codebook, what its ids carry.
//!
//! All in f64, and in one order whatever the number of threads.

mod adaptive;
mod eigen;
mod entropy;
mod frechet;
mod inception_score;
mod pictures;
mod precision_recall;
mod statistics;
mod usage;

pub use adaptive::CodeLengths;
pub(crate) use eigen::symmetric_eigen;
pub use entropy::{Conditional, EntropyReport, IdStatistics};
pub use frechet::{Moments, frechet_distance};
pub use inception_score::{InceptionScore, SPLITS, inception_score};
pub use pictures::{Luma, Pair, SSIM_BYTES, SSIM_SIDE, SsimBorder};
pub use precision_recall::{NEIGHBOURS, PrecisionRecall, precision_recall};
pub use statistics::{Gaussian, MeanAndCovariance, Provenance, Statistics};
pub use usage::{Usage, UsageShare, Window, write_counts};
