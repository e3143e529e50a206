//! One token file or several as one training set.

use std::path::{Path, PathBuf};

use vqlc_format::{Digest, Digests, Grid, Mapped, Spec, TokenFile};

use crate::{Error, Result};

/// Token files of one tokenizer, one grid, the same views, classes and preprocessing, one behind the other in the order they were named in.
/// They are mapped, not read.
pub struct TokenSet {
    files: Vec<(PathBuf, TokenFile<Mapped>)>,
    /// Number of the first picture of each file, and behind them the number of all.
    firsts: Vec<u64>,
    spec: Spec,
    /// Rows and columns of a record.
    grid: (u32, u32),
}

impl TokenSet {
    /// Opens the files; blocks are checked when they are first touched.
    ///
    /// # Errors
    /// [`Error::Tokens`] for a file that cannot be opened or is damaged; [`Error::Malformed`] for one that holds no pictures, whose grids
    /// vary, or that does not go with the first; [`Error::Argument`] for none.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let file = TokenFile::open(path).map_err(|source| Error::tokens(path, source))?;
            if file.is_empty() {
                return Err(Error::malformed(path, "it holds no pictures"));
            }
            files.push((path.clone(), file));
        }
        let Some((path, first)) = files.first() else {
            return Err(Error::Argument {
                what: "token files",
                expected: "at least one".into(),
                found: "none".into(),
            });
        };
        let spec = first.spec();
        let Grid::Fixed { rows, cols } = spec.grid else {
            let reason = "its pictures have grids of their own; training takes one grid: compress with --fit crop";
            return Err(Error::malformed(path, reason));
        };
        for (path, file) in &files[1..] {
            if let Some(difference) = difference(&spec, &file.spec()) {
                return Err(Error::malformed(path, difference));
            }
        }
        let mut firsts = vec![0];
        for (path, file) in &files {
            let pictures = firsts[firsts.len() - 1] + file.pictures();
            if pictures > u64::from(u32::MAX) {
                return Err(Error::malformed(path, "there are 2^32 pictures or more"));
            }
            firsts.push(pictures);
        }
        Ok(Self {
            files,
            firsts,
            spec,
            grid: (rows, cols),
        })
    }

    /// Pictures of all files.
    pub fn pictures(&self) -> u64 {
        self.firsts[self.files.len()]
    }

    /// Rows and columns of ids.
    pub fn grid(&self) -> (u32, u32) {
        self.grid
    }

    /// Ids of a record, rows times columns.
    pub fn ids(&self) -> usize {
        self.grid.0 as usize * self.grid.1 as usize
    }

    /// Entries of the codebook; ids are below it.
    pub fn codebook_size(&self) -> u32 {
        self.spec.codebook_size
    }

    /// Names of the views that there are of each picture.
    pub fn views(&self) -> &[String] {
        &self.spec.views
    }

    /// Names of the classes, if pictures are labelled.
    pub fn classes(&self) -> Option<&[Vec<u8>]> {
        self.spec.classes.as_deref()
    }

    /// What made the ids.
    pub fn digests(&self) -> &Digests {
        &self.spec.digests
    }

    /// How pictures were prepared.
    pub fn preprocessing(&self) -> &[u8] {
        &self.spec.preprocessing
    }

    /// The content digest of each file: what a checkpoint knows its data by.
    pub fn contents(&self) -> Vec<Digest> {
        self.files.iter().map(|(_, file)| file.content()).collect()
    }

    /// The class of a picture; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Tokens`] for a damaged file, or a picture that is not there.
    pub fn label(&self, picture: u64) -> Result<Option<u32>> {
        let (at, picture) = self.place(picture);
        let (path, file) = &self.files[at];
        file.label(picture)
            .map_err(|source| Error::tokens(path, source))
    }

    /// Unpacks a view of each of some pictures, `(picture, view)`, into `out` `[pictures, rows, cols]`, row-major.
    ///
    /// # Errors
    /// [`Error::Tokens`] for a damaged file; [`Error::Argument`] for a picture, a view or a length that is not there.
    pub fn gather(&self, records: &[(u64, u32)], out: &mut [u32]) -> Result<()> {
        let views = self.spec.views.len() as u64;
        let ids = self.ids();
        if out.len() != records.len() * ids {
            return Err(Error::Argument {
                what: "ids",
                expected: format!("{} records of {ids}", records.len()),
                found: out.len().to_string(),
            });
        }
        for &(picture, view) in records {
            if picture >= self.pictures() || u64::from(view) >= views {
                return Err(Error::Argument {
                    what: "picture and view",
                    expected: format!("of {} pictures with {views} views", self.pictures()),
                    found: format!("picture {picture}, view {view}"),
                });
            }
        }
        let number = |picture: u64, view: u32| picture * views + u64::from(view);
        if let [(path, file)] = &self.files[..] {
            let records: Vec<u64> = records.iter().map(|&(p, v)| number(p, v)).collect();
            return file
                .gather(&records, out)
                .map_err(|source| Error::tokens(path, source));
        }
        // File by file, so that a file fetches the next record while it unpacks one.
        let mut of_files = vec![(Vec::new(), Vec::new()); self.files.len()];
        for (slot, &(picture, view)) in records.iter().enumerate() {
            let (at, picture) = self.place(picture);
            of_files[at].0.push(number(picture, view));
            of_files[at].1.push(slot);
        }
        let mut unpacked = Vec::new();
        for ((path, file), (records, slots)) in self.files.iter().zip(of_files) {
            unpacked.resize(records.len() * ids, 0);
            file.gather(&records, &mut unpacked)
                .map_err(|source| Error::tokens(path, source))?;
            for (slot, unpacked) in slots.into_iter().zip(unpacked.chunks_exact(ids)) {
                out[slot * ids..][..ids].copy_from_slice(unpacked);
            }
        }
        Ok(())
    }

    /// The file of a picture, and its number there; of one that is not there, the last file, which says so.
    fn place(&self, picture: u64) -> (usize, u64) {
        let at = self.firsts[1..self.files.len()].partition_point(|&first| first <= picture);
        (at, picture - self.firsts[at])
    }

    /// The first file, for messages about all.
    pub(crate) fn path(&self) -> &Path {
        &self.files[0].0
    }
}

/// In what a file does not go with the first.
fn difference(first: &Spec, other: &Spec) -> Option<String> {
    let digest = |(what, a, b)| {
        format!("its {what} digest is {b}, the first file's {a}: the ids mean other things")
    };
    let differences = first.digests.differences(&other.digests);
    (differences.into_iter().next().map(digest)).or_else(|| {
        let parts = [
            (
                "codebook size",
                first.codebook_size != other.codebook_size,
                format!("{} and {}", first.codebook_size, other.codebook_size),
            ),
            (
                "grid",
                first.grid != other.grid,
                format!("{:?} and {:?}", first.grid, other.grid),
            ),
            (
                "views",
                first.views != other.views,
                format!("{:?} and {:?}", first.views, other.views),
            ),
            (
                "classes",
                first.classes != other.classes,
                "labels would mean other things".into(),
            ),
            (
                "preprocessing",
                first.preprocessing != other.preprocessing,
                "pictures were prepared otherwise".into(),
            ),
        ];
        let found = parts.into_iter().find(|(_, differs, _)| *differs);
        found.map(|(what, _, how)| format!("its {what} is not the first file's: {how}"))
    })
}
