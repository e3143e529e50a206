//! This crate's parts against tensors of an independent implementation (see [`vqlc_model::reference`]).

mod clip;
mod efficientnet;

pub use clip::{compare_clip, compare_clip_rn50};
pub use efficientnet::compare_efficientnet;
