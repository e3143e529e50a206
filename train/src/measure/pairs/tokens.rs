//! A token file and the pictures it was made of.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use vqlc_format::{Mapped, TokenFile};
use vqlc_model::{
    Tokenizer,
    image::{ReadOptions, Rgb, read, to_rgb8},
};

use super::{PairBatch, Pairs};
use crate::{
    Result,
    data::Skipped,
    measure::{
        AT_ONCE,
        decode::{Decoding, Record},
    },
};

/// Finds the file of a recorded name, or says why it will not be looked at. Names come out of a file that anyone may have made.
pub type Resolve<'a> = dyn Fn(&[u8]) -> Result<PathBuf, String> + Sync + 'a;

/// The first view of every picture of a token file, and the same cut of the original.
pub struct TokenPairs<'a> {
    decoding: Decoding<'a>,
    resolve: &'a Resolve<'a>,
    names: Box<dyn Iterator<Item = vqlc_format::Result<Vec<u8>>> + Sync + 'a>,
    next: u64,
    left_out: Vec<Skipped>,
}

impl<'a> TokenPairs<'a> {
    /// Of `file`, opened from `path`, whose ids `tokenizer` decodes: that they are its ids is for the caller to check. Pictures that would
    /// take more than `memory` bytes to decode are left out.
    ///
    /// # Errors
    /// [`crate::Error::Malformed`] for a file that does not say how its pictures were prepared, or whose tokens have another size than the
    /// tokenizer's.
    pub fn new(
        file: &'a TokenFile<Mapped>,
        path: &Path,
        tokenizer: &'a Tokenizer,
        resolve: &'a Resolve<'a>,
        memory: u64,
    ) -> Result<Self> {
        Ok(Self {
            decoding: Decoding::new(file, path, tokenizer, memory)?,
            resolve,
            names: Box::new(file.names()),
            next: 0,
            left_out: Vec::new(),
        })
    }

    /// Picture `index`, recorded as `name`. The outer error is the token file's.
    fn load(&self, index: u64, name: Option<&[u8]>) -> Result<Result<(Rgb, Record), String>> {
        let original = name
            .ok_or_else(|| "the token file keeps no names".to_owned())
            .and_then(|name| (self.resolve)(name))
            .and_then(|path| self.read(&path));
        let original = match original {
            Ok(original) => original,
            Err(reason) => return Ok(Err(reason)),
        };
        let size = (original.width, original.height);
        let record = self.decoding.record(index, Some(size))?;
        Ok(record.and_then(|record| Ok((self.cut(&original)?, record))))
    }

    fn read(&self, path: &Path) -> Result<Rgb, String> {
        let options = ReadOptions {
            background: self.decoding.preprocessing.background(),
            ..ReadOptions::default()
        };
        read(path, &options).map_err(|e| e.to_string())
    }

    /// What the encoder saw of a picture, without padding.
    fn cut(&self, original: &Rgb) -> Result<Rgb, String> {
        let cut = self.decoding.preprocessing.prepare(original);
        let cut = cut.map_err(|e| e.to_string())?;
        let (height, width) = (cut.true_height, cut.true_width);
        to_rgb8(&cut.views[0], cut.height, cut.width, height, width).map_err(|e| e.to_string())
    }
}

impl Pairs for TokenPairs<'_> {
    fn next(&mut self) -> Result<Option<PairBatch>> {
        let first = self.next;
        self.next = (first + AT_ONCE as u64).min(self.total());
        if self.next == first {
            return Ok(None);
        }
        let names: Vec<Option<Vec<u8>>> = (first..self.next)
            .map(|_| self.names.next().transpose())
            .collect::<vqlc_format::Result<_>>()
            .map_err(|e| self.decoding.broken(e))?;
        let this = &*self;
        let loaded: Vec<_> = names
            .par_iter()
            .enumerate()
            .map(|(i, name)| this.load(first + i as u64, name.as_deref()))
            .collect::<Result<_>>()?;
        let mut batch = PairBatch::default();
        let mut records = Vec::new();
        for (i, (name, loaded)) in names.iter().zip(loaded).enumerate() {
            let name = match name {
                Some(name) => String::from_utf8_lossy(name).into_owned(),
                None => format!("picture {}", first + i as u64),
            };
            match loaded {
                Ok((original, record)) => {
                    batch.numbers.push(first + i as u64);
                    batch.names.push(name);
                    batch.originals.push(original);
                    records.push(record);
                }
                Err(reason) => self.left_out.push(Skipped {
                    name: name.into(),
                    reason,
                }),
            }
        }
        batch.made = self.decoding.decode(&records)?;
        batch.ids = records.into_iter().map(|record| record.ids).collect();
        Ok(Some(batch))
    }

    fn total(&self) -> u64 {
        self.decoding.file.pictures()
    }

    fn left_out(&self) -> Vec<Skipped> {
        self.left_out.clone()
    }

    fn prepared(&self) -> String {
        self.decoding.prepared()
    }

    fn model(&self) -> Option<(String, u32)> {
        Some(self.decoding.model())
    }
}
