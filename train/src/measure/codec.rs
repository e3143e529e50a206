//! Pictures to ids and back.

use candle_core::Device;
use vqlc_model::Tokenizer;

use crate::{Result, learn::recorded};

/// What can be measured: pictures to ids and back.
pub trait Codec {
    /// Entries of the codebook.
    fn codes(&self) -> usize;
    /// Where it runs.
    fn device(&self) -> &Device;
    /// What it is, for a protocol.
    fn describe(&self) -> String;
    /// Ids `[count, side/f, side/f]` of `pixels` `[count, 3, side, side]` in [-1, 1].
    ///
    /// # Errors
    /// A tensor operation's.
    fn ids(&self, pixels: &[f32], count: usize, side: usize) -> Result<Vec<u32>>;
    /// The ids, and the pictures they decode to, shaped as `pixels`.
    ///
    /// # Errors
    /// A tensor operation's.
    fn reconstruct(
        &self,
        pixels: &[f32],
        count: usize,
        side: usize,
    ) -> Result<(Vec<u32>, Vec<f32>)>;
}

impl Codec for Tokenizer {
    fn codes(&self) -> usize {
        self.codebook_size() as usize
    }

    fn device(&self) -> &Device {
        Tokenizer::device(self)
    }

    fn describe(&self) -> String {
        let digests = recorded(self.digests());
        format!(
            "codebook {}, encoder {}, decoder {}",
            digests.codebook.short(),
            digests.encoder.short(),
            digests.decoder.short()
        )
    }

    fn ids(&self, pixels: &[f32], count: usize, side: usize) -> Result<Vec<u32>> {
        Ok(self.encode(pixels, count, side, side)?)
    }

    fn reconstruct(
        &self,
        pixels: &[f32],
        count: usize,
        side: usize,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let ids = self.ids(pixels, count, side)?;
        let grid = side / self.factor();
        let made = self.decode(&ids, count, grid, grid)?;
        Ok((ids, made))
    }
}
