//! What may be in the way of an output, and taking its partial file for oneself.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::paths::{journal_path, names_file, partial_path, remove_if_there};

/// Whether there is something of this name.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(Error::io("look for", path))
}

/// Refuses an output that is there, unless it is to be overwritten, and in any case one that is no regular file: to rename
/// over a device or a pipe would put a file in its place.
pub(crate) fn refuse_existing(path: &Path, overwrite: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("look for", path))?,
    };
    let shown = path.display();
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => {
            return Err(Error::argument(
                "output",
                "a file",
                format!("the folder {shown}"),
            ));
        }
        Ok(there) if !there.is_file() => {
            let found = format!("{shown}, which is a device, pipe or socket");
            return Err(Error::argument("output", "a regular file", found));
        }
        // A link to nothing is replaced like a file.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("look for", path)(error)),
    }
    if overwrite {
        return Ok(());
    }
    Err(Error::Exists {
        path: path.to_owned(),
    })
}

/// Refuses an output, as [`refuse_existing`] does, and an unfinished one.
pub(crate) fn refuse_in_the_way(path: &Path, overwrite: bool) -> Result<()> {
    refuse_existing(path, overwrite)?;
    let partial = partial_path(path);
    if !overwrite && exists(&partial)? {
        return Err(Error::PartialExists { path: partial });
    }
    Ok(())
}

/// Opens and locks the partial file.
pub(crate) fn lock(partial: &Path, create: bool) -> Result<File> {
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .write(true)
        .create(create)
        .truncate(false);
    let file = options.open(partial).map_err(Error::io("open", partial))?;
    let locked = || Error::Locked {
        path: partial.to_owned(),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(locked()),
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", partial)(error)),
    }
    // Its writer may have finished and renamed it between our opening and locking it.
    if !names_file(partial, &file).map_err(Error::io("look for", partial))? {
        return Err(locked());
    }
    Ok(file)
}

/// Removes what a job that failed and is not to be resumed has written so far. Of several errors the first is the one to
/// tell, so none is told here.
pub(crate) fn remove_unfinished(path: &Path) {
    let _ = remove_if_there(&journal_path(path));
    let _ = remove_if_there(&partial_path(path));
}
