//! Diffusion transformers (Peebles and Xie 2023): DiT where they are trained to say the noise, SiT (Ma et al. 2024) where the velocity.

mod network;
mod positions;

pub use network::{Dit, DitConfig, WAVES};
pub(crate) use positions::fixed_positions;
