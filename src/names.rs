//! Recorded names: `/`-separated bytes, whatever the platform. On Unix any bytes; elsewhere names that are not Unicode are refused, never bent.

use std::path::{Component, Path, PathBuf};

/// The recorded name of a relative path, or `None` where it has no `/`-separated form (not relative, `..`, or not Unicode on this platform).
pub(crate) fn from_path(path: &Path) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => {
                if !name.is_empty() {
                    name.push(b'/');
                }
                name.extend_from_slice(os_bytes(part)?);
            }
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(name)
}

/// The relative path of a recorded name; `None` where this platform cannot hold such a name.
pub(crate) fn to_path(name: &[u8]) -> Option<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(name)))
    }
    #[cfg(not(unix))]
    std::str::from_utf8(name).ok().map(PathBuf::from)
}

/// The name's last component.
pub(crate) fn base(name: &[u8]) -> &[u8] {
    name.rsplit(|&b| b == b'/').next().unwrap_or(name)
}

#[cfg(unix)]
fn os_bytes(part: &std::ffi::OsStr) -> Option<&[u8]> {
    use std::os::unix::ffi::OsStrExt;
    Some(part.as_bytes())
}

#[cfg(not(unix))]
fn os_bytes(part: &std::ffi::OsStr) -> Option<&[u8]> {
    part.to_str().map(str::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_and_slashed() {
        assert_eq!(
            from_path(Path::new("./a/./b.png")),
            Some(b"a/b.png".to_vec())
        );
        assert_eq!(from_path(Path::new("a/../b.png")), None);
        assert_eq!(from_path(Path::new("/a.png")), None);
        assert_eq!(base(b"a/b.png"), b"b.png");
        assert_eq!(base(b"b.png"), b"b.png");
    }

    #[cfg(unix)]
    #[test]
    fn any_bytes_survive() {
        let name = b"a\xff/\x01b.png";
        assert_eq!(from_path(&to_path(name).unwrap()), Some(name.to_vec()));
    }
}
