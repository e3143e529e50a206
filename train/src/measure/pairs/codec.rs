//! Pictures through a codec and back.

use std::{path::Path, sync::Arc};

use super::{PairBatch, Pairs};
use crate::{
    Result,
    data::{Loader, LoaderOptions, Order, Pictures, Skipped, Source},
    measure::{AT_ONCE, Codec, cut::crop_rule},
};
use vqlc_model::image::{Rgb, to_rgb8};

/// Centre crops of a folder's pictures, and what a codec makes of them.
pub struct CodecPairs<'a> {
    codec: &'a dyn Codec,
    source: Arc<Source>,
    loader: Loader,
    size: usize,
}

impl<'a> CodecPairs<'a> {
    /// Of the pictures below `folder`, read by so many threads: the short side is resized to `size` pixels, the centre cut out.
    ///
    /// # Errors
    /// A folder without pictures; a size that no crop can have.
    pub fn new(codec: &'a dyn Codec, folder: &Path, size: usize, threads: usize) -> Result<Self> {
        let source = Source::new(Pictures::scan(folder, true)?, 0);
        Ok(Self {
            codec,
            loader: Loader::start(&source, plain(size, threads), 0)?,
            source,
            size,
        })
    }
}

impl CodecPairs<'_> {
    /// The pictures of the folder.
    pub fn pictures(&self) -> &Pictures {
        self.source.pictures()
    }
}

/// Centre crops, once.
pub(crate) fn plain(size: usize, threads: usize) -> LoaderOptions {
    LoaderOptions {
        size: size as u32,
        batch: AT_ONCE,
        order: Order::Plain,
        threads,
        ahead: 2,
    }
}

impl Pairs for CodecPairs<'_> {
    fn next(&mut self) -> Result<Option<PairBatch>> {
        let Some(batch) = self.loader.next().transpose()? else {
            return Ok(None);
        };
        let count = batch.pictures.len();
        let (ids, made) = self.codec.reconstruct(&batch.pixels, count, self.size)?;
        let name = |&picture: &usize| self.source.pictures().name(picture).display().to_string();
        Ok(Some(PairBatch {
            numbers: batch.pictures.iter().map(|&at| at as u64).collect(),
            names: batch.pictures.iter().map(name).collect(),
            originals: eight_bits(&batch.pixels, self.size)?,
            made: eight_bits(&made, self.size)?,
            ids: ids
                .chunks((ids.len() / count.max(1)).max(1))
                .map(<[u32]>::to_vec)
                .collect(),
        }))
    }

    fn total(&self) -> u64 {
        self.source.pictures().count() as u64
    }

    fn left_out(&self) -> Vec<Skipped> {
        self.source.skipped()
    }

    fn prepared(&self) -> String {
        crop_rule(self.size)
    }

    fn model(&self) -> Option<(String, u32)> {
        Some((self.codec.describe(), self.codec.codes() as u32))
    }
}

/// Pictures `[n, 3, side, side]` in [-1, 1] as they would be written.
pub(crate) fn eight_bits(pixels: &[f32], side: usize) -> Result<Vec<Rgb>> {
    pixels
        .chunks_exact(3 * side * side)
        .map(|one| Ok(to_rgb8(one, side, side, side, side)?))
        .collect()
}
