//! Pictures measured against pictures, by a protocol that is written down beside every figure.
//!
//! [`Pairs`] hands out originals and what became of them, both 8 bits a channel and cut alike; a [`Comparer`] compares them, with the
//! networks that a [`Judges`] holds where the user has their weights; [`evaluate`] does both and says what was done.

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
const BATCH: usize = 8;
