//! A token file and the pictures it was made of.

use std::path::PathBuf;

use rayon::prelude::*;
use vqlc_format::{Mapped, TokenFile};
use vqlc_model::{
    Tokenizer,
    image::{Fit, Preprocessing, ReadOptions, Rgb, read, to_rgb8},
};

use super::{PairBatch, Pairs, crop_rule};
use crate::{
    Error, Result,
    data::Skipped,
    measure::{BATCH, Codec as _},
};

/// Finds the file of a recorded name, or says why it will not be looked at. Names come out of a file that anyone may have made.
pub type Resolve<'a> = dyn Fn(&[u8]) -> Result<PathBuf, String> + Sync + 'a;

/// The first view of every picture of a token file, and the same cut of the original.
pub struct TokenPairs<'a> {
    file: &'a TokenFile<Mapped>,
    /// Its name, for people.
    path: PathBuf,
    preprocessing: Preprocessing,
    tokenizer: &'a Tokenizer,
    resolve: &'a Resolve<'a>,
    /// Bytes that decoding one picture may take.
    memory: u64,
    names: Box<dyn Iterator<Item = vqlc_format::Result<Vec<u8>>> + Sync + 'a>,
    next: u64,
    left_out: Vec<Skipped>,
}

/// An original on its way: its cut, and what the file has of it.
struct Loaded {
    original: Rgb,
    ids: Vec<u32>,
    /// Rows and columns of ids.
    grid: (usize, usize),
}

impl<'a> TokenPairs<'a> {
    /// Of `file`, opened from `path`, whose ids `tokenizer` decodes: that they are its ids is for the caller to check. Pictures that would
    /// take more than `memory` bytes to decode are left out.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a file that does not say how its pictures were prepared, or whose tokens have another size than the
    /// tokenizer's.
    pub fn new(
        file: &'a TokenFile<Mapped>,
        path: PathBuf,
        tokenizer: &'a Tokenizer,
        resolve: &'a Resolve<'a>,
        memory: u64,
    ) -> Result<Self> {
        let preprocessing = Preprocessing::from_bytes(file.preprocessing())
            .map_err(|e| Error::malformed(&path, e.to_string()))?;
        if preprocessing.factor() as usize != tokenizer.factor() {
            return Err(Error::malformed(
                &path,
                format!(
                    "a token stands for {} pixels a side in it, and for {} in the model",
                    preprocessing.factor(),
                    tokenizer.factor()
                ),
            ));
        }
        Ok(Self {
            file,
            path,
            preprocessing,
            tokenizer,
            resolve,
            memory,
            names: Box::new(file.names()),
            next: 0,
            left_out: Vec::new(),
        })
    }

    /// What there is of picture `index`, recorded as `name`. The outer error is the token file's.
    fn load(&self, index: u64, name: Option<&[u8]>) -> Result<Result<Loaded, String>> {
        let mut ids = Vec::new();
        let record = index * self.file.views().len() as u64;
        let (rows, cols) =
            (self.file.get(record, &mut ids)).map_err(|e| Error::tokens(&self.path, e))?;
        let grid = (rows as usize, cols as usize);
        let original = match name {
            Some(name) => self.original(name, grid),
            None => Err("the token file keeps no names".to_owned()),
        };
        Ok(original.map(|original| Loaded {
            original,
            ids,
            grid,
        }))
    }

    fn original(&self, name: &[u8], (rows, cols): (usize, usize)) -> Result<Rgb, String> {
        let path = (self.resolve)(name)?;
        let options = ReadOptions {
            background: self.preprocessing.background(),
            ..ReadOptions::default()
        };
        let rgb = read(&path, &options).map_err(|e| e.to_string())?;
        let factor = self.tokenizer.factor() as u64;
        let network = self.preprocessing.network_size(rgb.width, rgb.height);
        if network != (cols as u64 * factor, rows as u64 * factor) {
            return Err(format!(
                "its original has {} x {} pixels, which do not go with a grid of {rows} x {cols} ids",
                rgb.width, rgb.height
            ));
        }
        let need = self
            .tokenizer
            .memory_estimate(network.1 as usize, network.0 as usize);
        if need > self.memory {
            return Err(format!(
                "decoding it takes {need} bytes, more than may be used"
            ));
        }
        let cut = self
            .preprocessing
            .prepare(&rgb)
            .map_err(|e| e.to_string())?;
        to_rgb8(
            &cut.views[0],
            cut.height,
            cut.width,
            cut.true_height,
            cut.true_width,
        )
        .map_err(|e| e.to_string())
    }

    fn decode(&self, loaded: &[(String, Loaded)]) -> Result<Vec<Rgb>> {
        let mut made = Vec::with_capacity(loaded.len());
        let factor = self.tokenizer.factor();
        for alike in loaded.chunk_by(|a, b| a.1.grid == b.1.grid) {
            let (rows, cols) = alike[0].1.grid;
            let (height, width) = (rows * factor, cols * factor);
            // As many at once as the memory holds; one always fits.
            let each = self.tokenizer.memory_estimate(height, width).max(1);
            let together = (self.memory / each).clamp(1, BATCH as u64) as usize;
            for some in alike.chunks(together) {
                let ids: Vec<u32> = some
                    .iter()
                    .flat_map(|(_, one)| one.ids.iter().copied())
                    .collect();
                let pixels = self.tokenizer.decode(&ids, some.len(), rows, cols)?;
                for ((_, one), pixels) in some.iter().zip(pixels.chunks_exact(3 * height * width)) {
                    let (to_width, to_height) = (one.original.width, one.original.height);
                    made.push(to_rgb8(
                        pixels,
                        height,
                        width,
                        to_height as usize,
                        to_width as usize,
                    )?);
                }
            }
        }
        Ok(made)
    }
}

impl Pairs for TokenPairs<'_> {
    fn next(&mut self) -> Result<Option<PairBatch>> {
        let end = (self.next + BATCH as u64).min(self.file.pictures());
        if self.next == end {
            return Ok(None);
        }
        let names: Vec<Option<Vec<u8>>> = (self.next..end)
            .map(|_| self.names.next().transpose())
            .collect::<vqlc_format::Result<_>>()
            .map_err(|e| Error::tokens(&self.path, e))?;
        let first = self.next;
        self.next = end;
        let this = &*self;
        let all: Vec<_> = names
            .par_iter()
            .enumerate()
            .map(|(i, name)| this.load(first + i as u64, name.as_deref()))
            .collect::<Result<_>>()?;
        let mut loaded = Vec::new();
        for (i, (name, one)) in names.iter().zip(all).enumerate() {
            let name = match name {
                Some(name) => String::from_utf8_lossy(name).into_owned(),
                None => format!("picture {}", first + i as u64),
            };
            match one {
                Ok(one) => loaded.push((name, one)),
                Err(reason) => self.left_out.push(Skipped {
                    name: name.into(),
                    reason,
                }),
            }
        }
        let made = self.decode(&loaded)?;
        let mut batch = PairBatch {
            made,
            ..PairBatch::default()
        };
        for (name, one) in loaded {
            batch.names.push(name);
            batch.originals.push(one.original);
            batch.ids.push(one.ids);
        }
        Ok(Some(batch))
    }

    fn total(&self) -> u64 {
        self.file.pictures()
    }

    fn left_out(&self) -> Vec<Skipped> {
        self.left_out.clone()
    }

    fn model(&self) -> Option<(String, u32)> {
        Some((self.tokenizer.describe(), self.tokenizer.codebook_size()))
    }

    fn prepared(&self) -> String {
        let rule = match self.preprocessing.fit() {
            Fit::Crop { size } => crop_rule(size as usize),
            Fit::Whole { max_side: None } => "pictures whole, at their own sizes".to_owned(),
            Fit::Whole {
                max_side: Some(side),
            } => format!("pictures whole, shrunk (bicubic, antialiased) to {side} pixels at most"),
        };
        let views = self.file.views();
        if views.len() == 1 {
            rule
        } else {
            format!("{rule}; only the first of {} views", views.len())
        }
    }
}
