//! Where decompressed pictures may go: below the output folder, through no link, onto nothing that is there.
//!
//! The names come from a token file and may have been made up by anyone. What another process does to the folder at the same moment is
//! outside this promise.

use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use crate::names;

/// A folder that pictures are written below.
pub(crate) struct OutputFolder {
    root: PathBuf,
}

/// Why a picture could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The file there stays as it is.
    #[error("{} exists already; --force replaces it, --skip-existing leaves it", .0.display())]
    Exists(PathBuf),
    /// A link could lead anywhere.
    #[error("{} is a symbolic link; pictures are not written through links", .0.display())]
    Link(PathBuf),
    /// A picture's name needs a folder where there is something else.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The system said no.
    #[error("cannot write {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl WriteError {
    /// Whether the reason lies in this picture's name, so that others may still be written.
    pub(crate) fn is_of_one_name(&self) -> bool {
        match self {
            Self::Link(_) | Self::NotAFolder(_) => true,
            Self::Exists(_) => false,
            Self::Io(_, err) => matches!(
                err.kind(),
                io::ErrorKind::InvalidFilename | io::ErrorKind::IsADirectory
            ),
        }
    }
}

impl OutputFolder {
    /// `root` itself may be a link: the user named it. It is made when the first picture comes.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The path that a recorded name stands for, or why it may not be written.
    pub(crate) fn place(&self, name: &[u8]) -> Result<PathBuf, &'static str> {
        let relative = check(name)?;
        Ok(self.root.join(relative))
    }

    /// Writes `content` under `name`: whole or not at all. With `replace`, onto a file that is there.
    pub(crate) fn write(
        &self,
        place: &Path,
        content: &[u8],
        replace: bool,
    ) -> Result<(), WriteError> {
        let folder = self.make_folders(place)?;
        let io = |err| WriteError::Io(place.to_owned(), err);
        let mut options = tempfile::Builder::new();
        options.prefix(".vqlc-").suffix(".partial");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As for any new file; the umask takes away what the user does not want.
            options.permissions(fs::Permissions::from_mode(0o666));
        }
        let mut file = options.tempfile_in(folder).map_err(io)?;
        file.write_all(content).map_err(io)?;
        let result = if replace {
            file.persist(place)
        } else {
            file.persist_noclobber(place)
        };
        match result {
            Ok(_) => Ok(()),
            Err(err) if err.error.kind() == io::ErrorKind::AlreadyExists && !replace => {
                Err(WriteError::Exists(place.to_owned()))
            }
            Err(err) => Err(io(err.error)),
        }
    }

    /// Makes the folders between the root and `place` and refuses links among them.
    fn make_folders(&self, place: &Path) -> Result<PathBuf, WriteError> {
        fs::create_dir_all(&self.root).map_err(|err| WriteError::Io(self.root.clone(), err))?;
        let mut folder = self.root.clone();
        let below = place
            .strip_prefix(&self.root)
            .ok()
            .and_then(Path::parent)
            .unwrap_or(Path::new(""));
        for part in below.components() {
            folder.push(part);
            match fs::create_dir(&folder) {
                Ok(()) => continue,
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(err) => return Err(WriteError::Io(folder, err)),
            }
            let metadata = folder
                .symlink_metadata()
                .map_err(|err| WriteError::Io(folder.clone(), err))?;
            if metadata.is_symlink() {
                return Err(WriteError::Link(folder));
            }
            if !metadata.is_dir() {
                return Err(WriteError::NotAFolder(folder));
            }
        }
        Ok(folder)
    }
}

/// The name as a relative path with no way out.
fn check(name: &[u8]) -> Result<PathBuf, &'static str> {
    if name.contains(&0) {
        return Err("its name holds a zero byte");
    }
    if name.first() == Some(&b'/') {
        return Err("its name is an absolute path");
    }
    for part in name.split(|&b| b == b'/') {
        match part {
            b"" => return Err("its name has an empty part"),
            b"." | b".." => return Err("its name leads out of the output folder"),
            _ => {}
        }
    }
    let path =
        names::to_path(name).ok_or("its name is not Unicode, as names must be on this platform")?;
    // Drive letters, backslashes, device names: what the platform does not take for plain parts.
    let slashes = name.iter().filter(|&&b| b == b'/').count();
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !plain
        || path.components().count() != slashes + 1
        || (cfg!(windows) && name.iter().any(|b| b"\\:".contains(b)))
    {
        return Err("its name leads out of the output folder");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for good in ["a.png", "a/b.png", "..a/b..png", "a b", "C:x.png"] {
            assert!(check(good.as_bytes()).is_ok() || cfg!(windows), "{good}");
        }
        for bad in [
            "", "/a", "../a", "a/../b", "a/..", "a//b", "a/", "./a", "a/./b", "a\0b", "..", ".",
        ] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_replaced_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let folder = OutputFolder::new(dir.path());
        let place = folder.place(b"x/y/a.png").unwrap();
        folder.write(&place, b"one", false).unwrap();
        assert!(matches!(
            folder.write(&place, b"two", false),
            Err(WriteError::Exists(_))
        ));
        assert_eq!(fs::read(&place).unwrap(), b"one");
        folder.write(&place, b"two", true).unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"two");
        assert_eq!(
            fs::read_dir(dir.path().join("x/y")).unwrap().count(),
            1,
            "no temporary file stays"
        );
        assert!(matches!(
            folder.write(&folder.place(b"x/y/a.png/b.png").unwrap(), b"", true),
            Err(WriteError::NotAFolder(_))
        ));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        use std::os::unix::fs::symlink;
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = OutputFolder::new(dir.path());
        symlink(other.path(), dir.path().join("x")).unwrap();
        let through = folder.place(b"x/a.png").unwrap();
        assert!(matches!(
            folder.write(&through, b"", true),
            Err(WriteError::Link(_))
        ));
        let target = other.path().join("target.png");
        fs::write(&target, b"keep").unwrap();
        symlink(&target, dir.path().join("a.png")).unwrap();
        let onto = folder.place(b"a.png").unwrap();
        assert!(matches!(
            folder.write(&onto, b"new", false),
            Err(WriteError::Exists(_))
        ));
        folder.write(&onto, b"new", true).unwrap();
        assert_eq!(
            fs::read(&target).unwrap(),
            b"keep",
            "the link is replaced, not what it points to"
        );
    }
}
