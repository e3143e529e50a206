//! Files that are whole or not there.

use std::{fs, io::Write as _, path::Path};

use crate::{Error, Result};

/// Writes `bytes` beside `path`, to the disk, then renames them there: a killed process leaves the old file or the new one.
///
/// # Errors
/// [`Error::Io`]; what is there stays then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let written = fs::File::create(partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(partial, path))
        .and_then(|()| match path.parent() {
            // The name itself is on the disk only when its folder is.
            Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
            _ => Ok(()),
        });
    written.map_err(|e| {
        // The write has failed already; what is left of it is only in the way.
        let _ = fs::remove_file(partial);
        Error::io(path, e)
    })
}
