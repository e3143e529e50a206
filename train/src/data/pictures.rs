//! Which pictures there are.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use vqlc_model::image::is_picture_name;
use walkdir::WalkDir;

use crate::{Error, Result};

/// The picture files below a folder, in byte order of their relative paths.
#[derive(Clone, Debug)]
pub struct Pictures {
    folder: PathBuf,
    names: Vec<PathBuf>,
    digest: [u8; 32],
    passed_over: u64,
}

impl Pictures {
    /// Finds all files below `folder` whose names end as pictures' do. `follow` also looks behind symbolic links, which otherwise
    /// are passed over.
    ///
    /// # Errors
    /// A folder or a file that cannot be looked at, a link that leads nowhere or in a circle when links are followed; a folder
    /// without pictures.
    pub fn scan(folder: &Path, follow: bool) -> Result<Self> {
        let mut found = Vec::new();
        let mut passed_over = 0;
        for entry in WalkDir::new(folder).min_depth(1).follow_links(follow) {
            let entry = entry.map_err(|e| walk_error(folder, e))?;
            if entry.file_type().is_dir() {
                continue;
            }
            let name = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            if !entry.file_type().is_file() || !is_picture_name(name) {
                passed_over += 1;
                continue;
            }
            let length = entry.metadata().map_err(|e| walk_error(folder, e))?.len();
            found.push((name.to_path_buf(), length));
        }
        if found.is_empty() {
            return Err(Error::malformed(
                folder,
                format!("no pictures in it ({passed_over} files of other kinds)"),
            ));
        }
        let bytes = |path: &PathBuf| path.as_os_str().as_encoded_bytes().to_vec();
        found.sort_by_cached_key(|(name, _)| bytes(name));
        let mut digest = Sha256::new();
        for (name, length) in &found {
            let name = bytes(name);
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
            digest.update(length.to_le_bytes());
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            names: found.into_iter().map(|(name, _)| name).collect(),
            digest: digest.finalize().into(),
            passed_over,
        })
    }

    /// How many there are; at least one.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// The folder they lie below.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of picture `index` relative to the folder.
    ///
    /// # Panics
    /// If `index` is not below [`Self::count`], as slice indexing does.
    pub fn name(&self, index: usize) -> &Path {
        &self.names[index]
    }

    /// SHA-256 of all relative paths and file lengths: a run that goes on with another set of pictures is another run.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Files that are no pictures by name, and links that were not followed.
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }
}

/// The class that a picture's relative path names: the first of its folders, or none where it lies in none. Parts are divided by `/`.
pub fn class_of(name: &[u8]) -> Option<&[u8]> {
    name.iter().position(|&b| b == b'/').map(|end| &name[..end])
}

fn walk_error(folder: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(folder).to_path_buf();
    let text = error.to_string();
    match error.into_io_error() {
        Some(source) => Error::Io { path, source },
        None => Error::malformed(&path, text),
    }
}
