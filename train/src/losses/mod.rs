//! What the generator and its adversary are trained on.

pub mod adaptive;
pub mod discriminator;
pub mod hinge;
pub mod lpips;
mod norm;
pub mod perceptual;
