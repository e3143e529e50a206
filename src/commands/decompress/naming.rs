//! The file name that each picture of a token file comes back under: the same whatever is selected, and no two alike.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::names;

/// Knows which plain names are taken. Takes 16 bytes a picture, and a few for each folder.
pub(super) struct Naming {
    /// Hashes of the recorded names without their extension, sorted.
    stems: Vec<u64>,
    /// Hashes of the recorded names, sorted.
    names: Vec<u64>,
    /// Hashes of the folders that recorded names lie in.
    folders: HashSet<u64>,
    extension: &'static str,
}

impl Naming {
    pub(super) fn new<E>(
        recorded: impl Iterator<Item = Result<Vec<u8>, E>>,
        extension: &'static str,
    ) -> Result<Self, E> {
        let (mut stems, mut names, mut folders) = (Vec::new(), Vec::new(), HashSet::new());
        for name in recorded {
            let name = name?;
            stems.push(hash(stem(&name)));
            names.push(hash(&name));
            let slashes = (0..name.len()).filter(|&at| name[at] == b'/');
            folders.extend(slashes.map(|at| hash(&name[..at])));
        }
        stems.sort_unstable();
        names.sort_unstable();
        Ok(Self {
            stems,
            names,
            folders,
            extension,
        })
    }

    /// The name of picture number `picture`, recorded as `name`; `view` is given where there are several.
    ///
    /// `a.jpg` becomes `a.png`. Of several that would become `a.png`, one recorded as `a.png` does; the others keep their extension as
    /// `a.jpg.png`, or, should that be taken too, get the picture's number as `a.jpg.000007.png`. A folder `a.png`
    /// takes that name as well.
    pub(super) fn of(&self, picture: u64, name: &[u8], view: Option<&str>) -> Vec<u8> {
        let stem = stem(name);
        let unique = count(&self.names, hash(name)) == 1;
        let file = |plain: &[u8]| {
            let view = view.map_or(String::new(), |view| format!(".{view}"));
            [plain, format!("{view}.{}", self.extension).as_bytes()].concat()
        };
        let free = |plain: &[u8]| !self.folders.contains(&hash(&file(plain)));
        let stem_is_its_own =
            count(&self.stems, hash(stem)) == 1 || (unique && self.comes_back_unchanged(name));
        if stem_is_its_own && free(stem) {
            return file(stem);
        }
        if unique && count(&self.stems, hash(name)) == 0 && free(name) {
            return file(name);
        }
        let number = format!(".{picture:06}");
        let mut plain = [name, number.as_bytes()].concat();
        while count(&self.stems, hash(&plain)) > 0 || !free(&plain) {
            plain.extend_from_slice(number.as_bytes());
        }
        file(&plain)
    }

    fn comes_back_unchanged(&self, name: &[u8]) -> bool {
        name.strip_prefix(stem(name)) == Some([b".", self.extension.as_bytes()].concat().as_slice())
    }
}

/// The name of a picture that has none.
pub(super) fn unnamed(picture: u64, view: Option<&str>, extension: &str) -> Vec<u8> {
    let view = view.map_or(String::new(), |view| format!(".{view}"));
    format!("{picture:06}{view}.{extension}").into_bytes()
}

/// The name without the extension that makes it a picture's.
fn stem(name: &[u8]) -> &[u8] {
    let is_picture = names::to_path(names::base(name))
        .is_some_and(|base| vqlc_model::image::is_picture_name(&base));
    match name.iter().rposition(|&b| b == b'.') {
        Some(dot) if is_picture => &name[..dot],
        _ => name,
    }
}

/// Equal for names that the platform's usual file system takes for one.
fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    if cfg!(any(windows, target_os = "macos")) {
        String::from_utf8_lossy(name)
            .to_lowercase()
            .hash(&mut hasher);
    } else {
        name.hash(&mut hasher);
    }
    hasher.finish()
}

fn count(sorted: &[u64], value: u64) -> usize {
    sorted.partition_point(|&v| v <= value) - sorted.partition_point(|&v| v < value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names(recorded: &[&str], extension: &'static str, view: Option<&str>) -> Vec<String> {
        let all = recorded
            .iter()
            .map(|name| Ok::<_, ()>(name.as_bytes().to_vec()));
        let naming = Naming::new(all, extension).unwrap();
        let of = |(i, name): (usize, &&str)| {
            String::from_utf8(naming.of(i as u64, name.as_bytes(), view)).unwrap()
        };
        recorded.iter().enumerate().map(of).collect()
    }

    #[test]
    fn both_come_back() {
        assert_eq!(
            names(&["x/a.jpg", "x/b.webp", "a.tif"], "png", None),
            ["x/a.png", "x/b.png", "a.png"]
        );
        assert_eq!(
            names(&["a.jpg", "a.png"], "png", None),
            ["a.jpg.png", "a.png"]
        );
        assert_eq!(
            names(&["a.jpg", "a.gif"], "png", None),
            ["a.jpg.png", "a.gif.png"]
        );
        assert_eq!(
            names(&["a.jpg", "a.jpg.gif", "a.png"], "png", None),
            ["a.jpg.000000.png", "a.jpg.png", "a.png"]
        );
        assert_eq!(
            names(&["a.jpg", "a.jpg"], "png", None),
            ["a.jpg.000000.png", "a.jpg.000001.png"]
        );
        assert_eq!(names(&["a.PNG", "a.png"], "png", None)[1], "a.png");
        assert_eq!(
            names(&["v1.2", "v1.jpg"], "png", None),
            ["v1.2.png", "v1.png"]
        );
        assert_eq!(
            names(&["a.jpg", "a.png"], "png", Some("flip")),
            ["a.jpg.flip.png", "a.flip.png"]
        );
        assert_eq!(
            names(&["d/a.jpg", "d/a.png/b.png"], "png", None),
            ["d/a.jpg.png", "d/a.png/b.png"]
        );
        assert_eq!(
            names(&["a.jpg", "a.png/b.png", "a.jpg.png/c.png"], "png", None),
            ["a.jpg.000000.png", "a.png/b.png", "a.jpg.png/c.png"]
        );
        assert_eq!(
            names(&["a.jpg", "a.flip.png/b.png"], "png", Some("flip")),
            ["a.jpg.flip.png", "a.flip.png/b.flip.png"]
        );
        assert_eq!(unnamed(7, None, "png"), b"000007.png");
        assert_eq!(unnamed(7, Some("flip"), "jpg"), b"000007.flip.jpg");
    }

    #[test]
    fn no_two_are_alike() {
        let pieces = [
            "a",
            "b",
            "a.jpg",
            "a.png",
            "a.gif",
            "b.jpg",
            "a.jpg.png",
            "a.jpg.gif",
            "a.gif.png",
            "a.jpg.000000",
            "b.png.jpg",
        ];
        // Every subset of eleven names that step on each other's toes.
        for set in 0..1_u32 << pieces.len() {
            let chosen: Vec<&str> = pieces
                .iter()
                .enumerate()
                .filter(|(i, _)| set >> i & 1 == 1)
                .map(|(_, &p)| p)
                .collect();
            let out: BTreeSet<String> = names(&chosen, "png", None).into_iter().collect();
            assert_eq!(out.len(), chosen.len(), "{chosen:?} gave {out:?}");
        }
    }
}
