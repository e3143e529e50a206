//! What networks that take noise away share: DDPM's noising and flow's, their losses, guidance, and sampling.

pub mod ddpm;
pub mod flow;
mod learn;
mod sample;
#[cfg(test)]
mod tests;
mod times;

use candle_core::{Result, Tensor};

pub use ddpm::NoiseSchedule;
pub use learn::Learner;
pub use sample::{Sampler, Sampling, guided, sample};
pub use times::embed_times;

/// A network that says of noised latents what was added (noise) or which way they move (velocity).
pub trait Denoiser {
    /// Latents `x` `[b, c, h, w]`, their times `t` `[b]` and classes `[b]` (u32, [`Self::null`] for none) to what the network says of them,
    /// in the shape of `x`. All but the classes are f32; what times mean is up to the family: steps 0 to 999 of DDPM, 0 (noise) to 1
    /// (data) of flow.
    ///
    /// # Errors
    /// Shapes that it was not built for; a tensor operation's.
    fn predict(&self, x: &Tensor, t: &Tensor, classes: &Tensor) -> Result<Tensor>;

    /// The class that stands for none.
    fn null(&self) -> u32;
}

/// One number for each row of `like` `[b, ..]`, to be broadcast over it.
fn per_row(values: impl Iterator<Item = f32>, like: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; like.rank()];
    shape[0] = like.dim(0)?;
    Tensor::from_vec(values.collect(), shape, like.device())
}
