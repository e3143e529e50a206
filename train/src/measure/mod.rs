//! Pictures measured against pictures, by a protocol that is written down beside every figure.
//!
//! [`Pairs`] hands out originals and what became of them, both 8 bits a channel and cut alike; a [`Comparer`] compares them, with the
//! networks that a [`Judges`] holds where the user has their weights; [`evaluate`] does both and says what was done.

use crate::metrics::SSIM_BYTES;

mod codec;
mod compare;
mod cut;
mod decode;
mod evaluation;
mod features;
mod generation;
mod judges;
mod pairs;
mod sets;
mod sizes;

pub use codec::Codec;
pub use compare::{Comparer, Comparison, PictureScores};
pub use evaluation::{Evaluation, Protocol, evaluate};
pub use features::{Cloud, FeatureNetwork, Keep};
pub use generation::{Gathered, Generation, GenerationFigures, Reference, SetFacts, gather, known};
pub use judges::{JudgeFiles, Judges, WeightsFile};
pub use pairs::{CodecPairs, FolderPairs, PairBatch, Pairs, Resolve, TokenPairs};
pub(crate) use pairs::{eight_bits, plain};
pub use sets::{FolderSet, PictureSet, TokenPictures};

/// Pictures that are looked at together.
pub const AT_ONCE: usize = 8;
/// Bytes that cutting a pair of pictures and comparing it takes for each pixel, without the networks.
pub const BYTES_A_PIXEL: u64 = SSIM_BYTES + 40;
