//! What training minimises, and the networks that judge.

pub mod adaptive;
pub mod discriminator;
pub mod hinge;
pub mod lpips;
mod norm;
pub mod perceptual;
