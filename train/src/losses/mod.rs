//! Losses.

pub mod perceptual;
