//! This crate's parts against tensors of an independent implementation (see [`vqlc_model::reference`]).

mod efficientnet;

pub use efficientnet::compare_efficientnet;
