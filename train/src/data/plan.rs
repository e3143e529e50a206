//! Which picture a sample shows, and which part of it.

use vqlc_format::order::{Permutation, Sampler, Shard};
use vqlc_model::{image::SquareCrop, rng::Rng};

use crate::{Error, Result};

/// How training pictures are varied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// The short side is resized to a uniformly drawn number of pixels, from the crop's size times this, rounded; at least 1.
    pub min_scale: f64,
    /// To that times this; at least `min_scale`.
    pub max_scale: f64,
    /// Whether every second picture, by a drawn bit, has left and right exchanged.
    pub flip: bool,
}

impl Default for Augment {
    /// As the VQGAN of Esser et al. (2021): crops of the picture resized to the crop's size, mirrored half of the time.
    fn default() -> Self {
        Self {
            min_scale: 1.0,
            max_scale: 1.0,
            flip: true,
        }
    }
}

/// In what order pictures come, and what is shown of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// For ever, each epoch in another order, crops drawn at random.
    Shuffled {
        /// What order and crops are drawn from.
        seed: u64,
        /// How they are varied.
        augment: Augment,
    },
    /// Once, as they are sorted: the short side resized to the crop's size, the centre cut out. What cannot be read is left out.
    Plain,
}

/// The crop of a slot, drawn from (seed, epoch, slot).
pub(super) fn crop(seed: u64, epoch: u64, slot: u64, size: u32, augment: &Augment) -> SquareCrop {
    // One output of the generator for each part, so that neighbouring slots have unrelated streams.
    let part = |state: u64, part: u64| Rng::new(state.wrapping_add(part)).next_u64();
    let mut rng = Rng::new(part(part(part(seed, 0), epoch), slot));
    let side = |scale: f64| (f64::from(size) * scale).round() as u32;
    let shortest = side(augment.min_scale);
    let choices = side(augment.max_scale).saturating_sub(shortest) + 1;
    SquareCrop {
        short_side: shortest + ((rng.uniform() * f64::from(choices)) as u32).min(choices - 1),
        size,
        across: rng.uniform(),
        down: rng.uniform(),
        // Drawn in any case: without mirroring the crops stay the same.
        mirrored: rng.uniform() < 0.5 && augment.flip,
    }
}

/// The permutation of an epoch.
pub(super) fn permutation(pictures: u64, seed: u64, epoch: u64) -> Permutation {
    Sampler::new(pictures, seed, Shard::whole()).order(epoch)
}

/// That crops of this size and scale can be cut.
pub(crate) fn check(size: u32, order: &Order) -> Result<()> {
    if !(1..=1 << 16).contains(&size) {
        return Err(Error::Config(format!(
            "the picture size is 1 to 65536 pixels, got {size}"
        )));
    }
    let Order::Shuffled { augment, .. } = order else {
        return Ok(());
    };
    let scale = augment.max_scale;
    let ordered = augment.min_scale >= 1.0 && augment.min_scale <= scale;
    if ordered && scale * f64::from(size) <= f64::from(1 << 16) {
        Ok(())
    } else {
        Err(Error::Config(format!(
            "crop scales are 1 to {} for pictures of {size} pixels, the least first, got {} to {scale}",
            f64::from(1 << 16) / f64::from(size),
            augment.min_scale
        )))
    }
}
