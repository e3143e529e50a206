//! GPT over token ids, as the paper's section 4 trains it: a class token, then the ids of a picture row by row.

mod choose;
mod decode;
mod learn;
mod loss;
mod network;
mod sample;

pub use choose::Choice;
pub use decode::Decoder;
pub use learn::Learner;
pub(crate) use learn::start_from_codebook;
pub use loss::{CrossEntropy, linear_cross_entropy};
pub use network::{Embedding, Gpt, GptConfig, Tables};
pub use sample::{Work, draw_ids};
