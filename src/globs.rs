//! Name patterns, with one meaning wherever a command takes them.

use anyhow::Context;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::names;

/// A set of patterns over recorded names. A pattern without `/` is compared with file and folder names at any depth, one with `/` with the
/// path from the top; one that names a folder stands for everything in it. `*` and `?` stop at `/`, `**` does not.
pub(crate) struct Globs {
    anywhere: GlobSet,
    from_top: GlobSet,
}

impl Globs {
    pub(crate) fn new(patterns: &[String]) -> anyhow::Result<Self> {
        let mut anywhere = GlobSetBuilder::new();
        let mut from_top = GlobSetBuilder::new();
        for pattern in patterns {
            let bare = pattern.strip_prefix("./").unwrap_or(pattern);
            let bare = bare.strip_suffix('/').unwrap_or(bare);
            let glob = GlobBuilder::new(bare.strip_prefix('/').unwrap_or(bare))
                .literal_separator(true)
                .build()
                .with_context(|| format!("the pattern '{pattern}'"))?;
            if bare.contains('/') {
                from_top.add(glob);
            } else {
                anywhere.add(glob);
            }
        }
        Ok(Self {
            anywhere: anywhere.build()?,
            from_top: from_top.build()?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.anywhere.is_empty() && self.from_top.is_empty()
    }

    /// Whether a pattern stands for `name` or for a folder it lies in.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        let ends = name
            .iter()
            .enumerate()
            .filter(|&(_, &b)| b == b'/')
            .map(|(i, _)| i);
        ends.chain([name.len()])
            .any(|end| self.matches_exactly(&name[..end]))
    }

    fn matches_exactly(&self, name: &[u8]) -> bool {
        let Some(path) = names::to_path(name) else {
            return false;
        };
        let Some(base) = names::to_path(names::base(name)) else {
            return false;
        };
        self.from_top.is_match(path) || self.anywhere.is_match(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &[u8]) -> bool {
        Globs::new(&[pattern.to_owned()]).unwrap().matches(name)
    }

    #[test]
    fn patterns_mean_what_the_help_says() {
        assert!(matches("*.jpg", b"a/b/c.jpg"));
        assert!(!matches("*.jpg", b"a/b/c.png"));
        assert!(matches("cats", b"x/cats/c.png"));
        assert!(matches("cats/", b"cats/c.png"));
        assert!(!matches("cats", b"x/cats2/c.png"));
        assert!(matches("/cats", b"cats/c.png"));
        assert!(!matches("/cats", b"x/cats/c.png"));
        assert!(matches("x/*/c.png", b"x/cats/c.png"));
        assert!(!matches("x/*.png", b"x/cats/c.png"));
        assert!(matches("x/**", b"x/cats/c.png"));
        assert!(matches("**/c.png", b"x/cats/c.png"));
        assert!(matches("./x/cats", b"x/cats/c.png"));
        assert!(Globs::new(&["a[".to_owned()]).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn patterns_match_any_bytes() {
        assert!(matches("*.png", b"a/\xff.png"));
        assert!(matches("?.png", b"a/\xff.png"));
    }
}
