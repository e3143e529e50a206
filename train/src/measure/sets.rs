//! Sets of pictures, one beside the other: what distances between distributions are taken of.

use std::path::Path;

use rayon::prelude::*;
use vqlc_format::{Mapped, TokenFile};
use vqlc_model::{Tokenizer, image::Rgb};

use super::{AT_ONCE, cut::Cut, decode::Decoding};
use crate::{
    Result,
    data::{Pictures, Skipped},
};

/// Pictures, batch by batch, in the order of their names or records.
pub trait PictureSet {
    /// The next ones; `None` after the last. A batch may be empty.
    ///
    /// # Errors
    /// What is no single picture's fault; a picture that cannot be used is left out.
    fn next(&mut self) -> Result<Option<Vec<Rgb>>>;

    /// Pictures there are, those included that will be left out.
    fn total(&self) -> u64;

    /// The pictures left out so far, and why.
    fn left_out(&self) -> Vec<Skipped>;

    /// How they are cut, in a few words.
    fn prepared(&self) -> String;

    /// What decoded them, where they come out of a token file.
    fn model(&self) -> Option<String>;
}

/// The pictures of a folder.
pub struct FolderSet {
    pictures: Pictures,
    cut: Cut,
    next: usize,
    left_out: Vec<Skipped>,
}

impl FolderSet {
    /// Centre crops of `size` pixels, or the pictures as they are.
    ///
    /// # Errors
    /// A folder without pictures; a size that no crop can have.
    pub fn new(folder: &Path, size: Option<usize>) -> Result<Self> {
        Ok(Self {
            pictures: Pictures::scan(folder, true)?,
            cut: Cut::new(size)?,
            next: 0,
            left_out: Vec::new(),
        })
    }
}

impl PictureSet for FolderSet {
    fn next(&mut self) -> Result<Option<Vec<Rgb>>> {
        let first = self.next;
        self.next = (first + AT_ONCE).min(self.pictures.count());
        if self.next == first {
            return Ok(None);
        }
        let path = |i: usize| self.pictures.folder().join(self.pictures.name(i));
        let read: Vec<_> = (first..self.next)
            .into_par_iter()
            .map(|i| self.cut.read(&path(i)))
            .collect();
        let mut batch = Vec::new();
        for (i, read) in (first..).zip(read) {
            match read {
                Ok(rgb) => batch.push(rgb),
                Err(reason) => self.left_out.push(Skipped {
                    name: self.pictures.name(i).to_path_buf(),
                    reason,
                }),
            }
        }
        Ok(Some(batch))
    }

    fn total(&self) -> u64 {
        self.pictures.count() as u64
    }

    fn left_out(&self) -> Vec<Skipped> {
        self.left_out.clone()
    }

    fn prepared(&self) -> String {
        self.cut.words()
    }

    fn model(&self) -> Option<String> {
        None
    }
}

/// What the first views of a token file decode to.
pub struct TokenPictures<'a> {
    decoding: Decoding<'a>,
    next: u64,
    left_out: Vec<Skipped>,
}

impl<'a> TokenPictures<'a> {
    /// As [`super::TokenPairs::new`].
    ///
    /// # Errors
    /// As there.
    pub fn new(
        file: &'a TokenFile<Mapped>,
        path: &Path,
        tokenizer: &'a Tokenizer,
        memory: u64,
    ) -> Result<Self> {
        Ok(Self {
            decoding: Decoding::new(file, path, tokenizer, memory)?,
            next: 0,
            left_out: Vec::new(),
        })
    }
}

impl PictureSet for TokenPictures<'_> {
    fn next(&mut self) -> Result<Option<Vec<Rgb>>> {
        let first = self.next;
        self.next = (first + AT_ONCE as u64).min(self.total());
        if self.next == first {
            return Ok(None);
        }
        let mut records = Vec::new();
        for index in first..self.next {
            let original = self.decoding.file.size(index);
            let original = original.map_err(|e| self.decoding.broken(e))?;
            match self.decoding.record(index, original)? {
                Ok(record) => records.push(record),
                Err(reason) => self.left_out.push(Skipped {
                    name: format!("picture {index}").into(),
                    reason,
                }),
            }
        }
        self.decoding.decode(&records).map(Some)
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

    fn model(&self) -> Option<String> {
        Some(self.decoding.model().0)
    }
}
