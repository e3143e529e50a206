//! What commands ask of an output before they write it.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, ensure};

/// Refuses what is there already, unless `overwrite`, and in any case what is no regular file: a folder, a pipe, a device; and a path
/// in a folder that is not there. Asked before the work that the output is made by.
pub(crate) fn may_write(path: &Path, overwrite: bool) -> anyhow::Result<()> {
    // Through links: one to a device is as little meant to be replaced as the device.
    ensure!(
        path.metadata().map_or(true, |there| there.is_file()),
        "{} is there and is no regular file; it is not replaced",
        path.display()
    );
    ensure!(
        overwrite || path.symlink_metadata().is_err(),
        "{} exists already (--force replaces it)",
        path.display()
    );
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    ensure!(
        folder.is_none_or(Path::is_dir),
        "{} cannot be written: there is no such folder",
        path.display()
    );
    Ok(())
}

/// Whether two paths lead to one file, which need not be there yet.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| -> Option<PathBuf> {
        path.canonicalize().ok().or_else(|| {
            // The current folder's name is empty here.
            let folder = Path::new(".").join(path.parent()?);
            Some(folder.canonicalize().ok()?.join(path.file_name()?))
        })
    };
    a == b || real(a).is_some_and(|a| real(b) == Some(a))
}

/// Tells how to replace what stands in the way of a token file.
pub(crate) fn with_force_hint(err: vqlc_format::Error) -> anyhow::Error {
    use vqlc_format::Error::{Exists, PartialExists};
    match err {
        err @ (Exists { .. } | PartialExists { .. }) => anyhow!("{err} (--force replaces it)"),
        err => err.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_by_several_paths() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, around) = (dir.path().join("a"), dir.path().join("x/../a"));
        assert!(!same_file(&plain, &dir.path().join("b")));
        std::fs::create_dir(dir.path().join("x")).unwrap();
        assert!(same_file(&plain, &around), "also before it is there");
        std::fs::write(&plain, "").unwrap();
        assert!(same_file(&plain, &around));
        assert!(same_file(
            Path::new("Cargo.toml"),
            Path::new("./Cargo.toml")
        ));
        assert!(same_file(Path::new("not there"), Path::new("./not there")));
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("a");
        assert!(may_write(&plain, false).is_ok());
        std::fs::write(&plain, "").unwrap();
        assert!(may_write(&plain, false).is_err());
        assert!(may_write(&plain, true).is_ok());
        assert!(may_write(dir.path(), true).is_err());
        assert!(may_write(&dir.path().join("none/a"), false).is_err());
        assert!(may_write(Path::new("not there"), false).is_ok());
        #[cfg(unix)]
        assert!(may_write(Path::new("/dev/null"), true).is_err());
    }
}
