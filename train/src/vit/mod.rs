//! Vision transformers that classify maps of latents (Dosovitskiy et al. 2021), as the paper's section 4 fine-tunes them on its tokens.

mod learn;
mod mix;
mod network;
mod positions;
mod pretrained;

pub use learn::Learner;
pub(crate) use learn::start_pretrained;
pub use network::{Vit, VitConfig, layer_of};
pub use pretrained::{TakenUp, take_up};
