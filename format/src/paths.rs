//! Names beside an output, and what the file system needs besides reading and writing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Where a token file is written until it is complete: its path and `.partial`.
pub fn partial_path(path: &Path) -> PathBuf {
    with_suffix(path, ".partial")
}

/// The journal beside an unfinished token file: its path and `.partial.journal`.
pub fn journal_path(path: &Path) -> PathBuf {
    with_suffix(path, ".partial.journal")
}

/// The journal that belongs to a partial file.
pub(crate) fn journal_of_partial(partial: &Path) -> PathBuf {
    with_suffix(partial, ".journal")
}

/// Makes the names in the folder of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    // Only Unix can open a folder to sync it; elsewhere a rename is as durable as the system makes it.
    #[cfg(unix)]
    {
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Removes a file that may be missing.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether `path` still names the open file: between opening and locking it, another writer may have finished and renamed it.
pub(crate) fn names_file(path: &Path, file: &File) -> io::Result<bool> {
    let named = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    #[cfg(unix)]
    {
        Ok(identity(&named) == identity(&file.metadata()?))
    }
    #[cfg(not(unix))]
    {
        // An open file cannot be renamed away there.
        let _ = (named, file);
        Ok(true)
    }
}

/// Whether two names are of one existing file, by whatever way or link.
pub(crate) fn same_file(one: &Path, two: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    let found = [one, two].map(|path| fs::metadata(path).map(|there| identity(&there)));
    #[cfg(not(unix))]
    let found = [one, two].map(fs::canonicalize);
    match found {
        [Err(error), _] | [_, Err(error)] if error.kind() == io::ErrorKind::NotFound => Ok(false),
        [one, two] => Ok(one? == two?),
    }
}

/// What tells a file from all others.
#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}
