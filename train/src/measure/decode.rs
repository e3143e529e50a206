//! Pictures out of a token file: the first view of each.

use std::path::{Path, PathBuf};

use vqlc_format::{Mapped, TokenFile};
use vqlc_model::{
    Tokenizer,
    image::{Fit, Preprocessing, Rgb, to_rgb8},
};

use super::{AT_ONCE, Codec as _, cut::crop_rule};
use crate::{Error, Result};

/// Ids, and the picture they stand for.
pub(super) struct Record {
    /// Ids, row by row.
    pub(super) ids: Vec<u32>,
    /// Rows and columns of ids.
    pub(super) grid: (u32, u32),
    /// Width and height of the picture; what the ids decode to may be larger, to the right and at the bottom.
    pub(super) size: (u32, u32),
}

/// A token file and the tokenizer that its ids are of.
pub(super) struct Decoding<'a> {
    pub(super) file: &'a TokenFile<Mapped>,
    path: PathBuf,
    pub(super) preprocessing: Preprocessing,
    pub(super) tokenizer: &'a Tokenizer,
    /// Bytes that decoding may take.
    memory: u64,
}

impl<'a> Decoding<'a> {
    /// # Errors
    /// [`Error::Malformed`] for a file that does not say how its pictures were prepared, or whose tokens have another size than the
    /// tokenizer's.
    pub(super) fn new(
        file: &'a TokenFile<Mapped>,
        path: &Path,
        tokenizer: &'a Tokenizer,
        memory: u64,
    ) -> Result<Self> {
        let preprocessing = Preprocessing::from_bytes(file.preprocessing())
            .map_err(|e| Error::malformed(path, e.to_string()))?;
        let (told, factor) = (preprocessing.factor(), tokenizer.factor());
        if told as usize != factor {
            let reason = format!(
                "a token stands for {told} pixels a side in it, and for {factor} in the model"
            );
            return Err(Error::malformed(path, reason));
        }
        Ok(Self {
            file,
            path: path.to_path_buf(),
            preprocessing,
            tokenizer,
            memory,
        })
    }

    /// The first view of picture `index`. `original` are width and height of the picture it was made of, where they are known.
    ///
    /// The inner error is a reason to leave the picture out.
    ///
    /// # Errors
    /// The token file's.
    pub(super) fn record(
        &self,
        index: u64,
        original: Option<(u32, u32)>,
    ) -> Result<Result<Record, String>> {
        let mut ids = Vec::new();
        let record = index * self.file.views().len() as u64;
        let grid = self
            .file
            .get(record, &mut ids)
            .map_err(|e| self.broken(e))?;
        let Some(size) = self.preprocessing.decoded_size(original, grid.0, grid.1) else {
            let (width, height) = original.unwrap_or_default();
            return Ok(Err(format!(
                "a picture of {width} x {height} pixels does not give a grid of {} x {} ids",
                grid.0, grid.1
            )));
        };
        let need = self.need(grid);
        if need > self.memory {
            return Ok(Err(format!(
                "decoding it takes {need} bytes, more than may be used"
            )));
        }
        Ok(Ok(Record { ids, grid, size }))
    }

    fn need(&self, (rows, cols): (u32, u32)) -> u64 {
        let side = |ids: u32| (ids as usize).saturating_mul(self.tokenizer.factor());
        self.tokenizer.memory_estimate(side(rows), side(cols))
    }

    /// The file's error as this crate's.
    pub(super) fn broken(&self, error: vqlc_format::Error) -> Error {
        Error::tokens(&self.path, error)
    }

    /// Decodes `records`, as many of one shape at once as the memory allows.
    ///
    /// # Errors
    /// The network's.
    pub(super) fn decode(&self, records: &[Record]) -> Result<Vec<Rgb>> {
        let mut made = Vec::with_capacity(records.len());
        let factor = self.tokenizer.factor();
        for alike in records.chunk_by(|a, b| a.grid == b.grid) {
            let (rows, cols) = (alike[0].grid.0 as usize, alike[0].grid.1 as usize);
            let (height, width) = (rows * factor, cols * factor);
            let together = (self.memory / self.need(alike[0].grid).max(1)).clamp(1, AT_ONCE as u64);
            for some in alike.chunks(together as usize) {
                let ids: Vec<u32> = some.iter().flat_map(|one| &one.ids).copied().collect();
                let pixels = self.tokenizer.decode(&ids, some.len(), rows, cols)?;
                for (one, pixels) in some.iter().zip(pixels.chunks_exact(3 * height * width)) {
                    let (to_width, to_height) = (one.size.0 as usize, one.size.1 as usize);
                    made.push(to_rgb8(pixels, height, width, to_height, to_width)?);
                }
            }
        }
        Ok(made)
    }

    /// What decodes, and how many ids there are to choose from.
    pub(super) fn model(&self) -> (String, u32) {
        (self.tokenizer.describe(), self.tokenizer.codebook_size())
    }

    /// How the file's pictures were cut, in words.
    pub(super) fn prepared(&self) -> String {
        let rule = match self.preprocessing.fit() {
            Fit::Crop { size } => crop_rule(size as usize),
            Fit::Whole { max_side: None } => "pictures whole, at their own sizes".to_owned(),
            Fit::Whole {
                max_side: Some(side),
            } => format!("pictures whole, shrunk (bicubic, antialiased) to {side} pixels at most"),
        };
        match self.file.views().len() {
            1 => rule,
            views => format!("{rule}; only the first of {views} views"),
        }
    }
}
