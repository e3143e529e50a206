//! Two folders: pictures, and what another program made of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use vqlc_model::image::Rgb;

use super::{PairBatch, Pairs};
use crate::{
    Result,
    data::{Pictures, Skipped},
    measure::{AT_ONCE, BYTES_A_PIXEL, cut::Cut},
};

/// The pictures of two folders that have the same names but for their endings.
pub struct FolderPairs {
    originals: Pictures,
    made: Pictures,
    /// For each of `made`, the original of its name, or why there is none.
    partners: Vec<Result<usize, String>>,
    cut: Cut,
    /// Bytes that comparing may take.
    memory: u64,
    next: usize,
    left_out: Vec<Skipped>,
}

impl FolderPairs {
    /// The pictures of `made`, each beside the one of `originals` with the same relative path, whatever the ending: `a.png` or
    /// `a.jpg.png` beside `a.jpg`. With `size` the short sides of both are resized to it and the centres cut out, without both are
    /// taken as they are. Pictures too large to be compared in `memory` bytes are left out.
    ///
    /// # Errors
    /// A folder without pictures; a size that no crop can have.
    pub fn new(originals: &Path, made: &Path, size: Option<usize>, memory: u64) -> Result<Self> {
        let (originals, made) = (
            Pictures::scan(originals, true)?,
            Pictures::scan(made, true)?,
        );
        Ok(Self {
            partners: partners(&originals, &made),
            originals,
            made,
            cut: Cut::new(size)?,
            memory,
            next: 0,
            left_out: Vec::new(),
        })
    }

    fn load(&self, index: usize) -> Result<(Rgb, Rgb), String> {
        let original = self.partners[index].clone()?;
        let one = |pictures: &Pictures, index: usize| {
            let path = pictures.folder().join(pictures.name(index));
            let cut = self.cut.read(&path);
            cut.map_err(|reason| format!("{}: {reason}", path.display()))
        };
        let (original, made) = (one(&self.originals, original)?, one(&self.made, index)?);
        let size = |rgb: &Rgb| format!("{} x {}", rgb.width, rgb.height);
        let need = original.data.len() as u64 / 3 * BYTES_A_PIXEL * AT_ONCE as u64;
        if need > self.memory {
            Err(format!(
                "has {} pixels: comparing some of its size takes {need} bytes, more than may be used",
                size(&made)
            ))
        } else if size(&original) == size(&made) {
            Ok((original, made))
        } else {
            Err(format!(
                "has {} pixels, its original {}; a size for the crops of both is needed",
                size(&made),
                size(&original)
            ))
        }
    }
}

/// The original of each picture.
fn partners(originals: &Pictures, made: &Pictures) -> Vec<Result<usize, String>> {
    let names = |pictures: &Pictures| -> Vec<PathBuf> {
        (0..pictures.count())
            .map(|i| pictures.name(i).to_path_buf())
            .collect()
    };
    let originals = names(originals);
    let whole: BTreeMap<&Path, usize> = originals
        .iter()
        .enumerate()
        .map(|(i, name)| (name.as_path(), i))
        .collect();
    let mut stems: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for (i, name) in originals.iter().enumerate() {
        stems.entry(name.with_extension("")).or_default().push(i);
    }
    let partner = |name: PathBuf| {
        let stem = name.with_extension("");
        if let Some(&i) = whole
            .get(name.as_path())
            .or_else(|| whole.get(stem.as_path()))
        {
            return Ok(i);
        }
        match stems.get(&stem).map(Vec::as_slice) {
            Some(&[i]) => Ok(i),
            None => Err("no original has its name".to_owned()),
            Some(several) => Err(format!("{} originals have its name", several.len())),
        }
    };
    names(made).into_iter().map(partner).collect()
}

impl Pairs for FolderPairs {
    fn next(&mut self) -> Result<Option<PairBatch>> {
        let end = (self.next + AT_ONCE).min(self.made.count());
        if self.next == end {
            return Ok(None);
        }
        let range = self.next..end;
        self.next = end;
        let loaded: Vec<_> = range
            .clone()
            .into_par_iter()
            .map(|i| self.load(i))
            .collect();
        let mut batch = PairBatch::default();
        for (index, loaded) in range.zip(loaded) {
            let name = self.made.name(index);
            match loaded {
                Ok((original, made)) => {
                    batch.numbers.push(index as u64);
                    batch.names.push(name.display().to_string());
                    batch.originals.push(original);
                    batch.made.push(made);
                    batch.ids.push(Vec::new());
                }
                Err(reason) => self.left_out.push(Skipped {
                    name: name.to_path_buf(),
                    reason,
                }),
            }
        }
        Ok(Some(batch))
    }

    fn total(&self) -> u64 {
        self.made.count() as u64
    }

    fn left_out(&self) -> Vec<Skipped> {
        self.left_out.clone()
    }

    fn model(&self) -> Option<(String, u32)> {
        None
    }

    fn prepared(&self) -> String {
        self.cut.words()
    }
}
