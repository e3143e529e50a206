//! The UNet of latent diffusion (Rombach et al. 2022, section 3 and appendix E.2.1), told a class by attention to an embedding of it.

mod config;
mod layers;
mod network;
mod residual;
#[cfg(test)]
mod tests;
mod time;
mod transformer;

pub use config::UnetConfig;
pub use network::Unet;
