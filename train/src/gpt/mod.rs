//! GPT over token ids, as the paper's section 4 trains it: a class token, then the ids of a picture row by row.

mod decode;
mod loss;
mod network;

pub use decode::Decoder;
pub use loss::{CrossEntropy, linear_cross_entropy};
pub use network::{Gpt, GptConfig};
