//! What decides what a row comes to, and how that differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use vqlc_model::digest::hex;

use super::record::Settings;
use crate::{
    Error, Result, TokenizerConfig, backbone::weights, codebook::Codebook, data::Pictures,
};

/// What changes nothing that is measured: threads, memory, and what is kept and shown meanwhile.
const INDIFFERENT: [&str; 7] = [
    "data.workers",
    "data.cache_mib",
    "checkpoint.every",
    "checkpoint.keep",
    "watch.log_every",
    "watch.grid_every",
    "watch.grid_pictures",
];
/// Paths: what lies there counts, not where it lies.
const PATHS: [&str; 5] = [
    "data.images",
    "data.eval",
    "data.eval_weights",
    "quantizer.codebook",
    "loss.perceptual_weights",
];
/// The kind of device that a row is made on: sums differ in their last digits from one to the other.
pub(super) const DEVICE: &str = "device";
/// The codebook that a row started from: another device may make others by the same recipe.
pub(super) const ENTRIES: &str = "codebook's entries";
/// What is known only when a row starts, or was not recorded by earlier versions.
const LATER: [&str; 2] = [DEVICE, ENTRIES];

/// How settings differ, the first three of all differences; `None` where they do not. What is not known of both is no difference for [`LATER`].
pub(super) fn difference(then: &Settings, now: &Settings) -> Option<String> {
    let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let short = |value: Option<&String>| match value {
        // A digest says no more when it is whole.
        Some(value) if value.len() == 64 => value.chars().take(12).collect(),
        Some(value) => value.clone(),
        None => "none".to_owned(),
    };
    let all: Vec<String> = keys
        .into_iter()
        .filter(|key| then.get(*key) != now.get(*key))
        .filter(|key| {
            let both = then.contains_key(*key) && now.contains_key(*key);
            both || !LATER.contains(&key.as_str())
        })
        .map(|key| {
            format!(
                "{key} was {}, is {}",
                short(then.get(key)),
                short(now.get(key))
            )
        })
        .collect();
    let more = all.len().saturating_sub(3);
    let mut text = all.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 {
        text += &format!("; and {more} more");
    }
    (!all.is_empty()).then_some(text)
}

/// A configuration's values by `section.key`, without what changes nothing and without paths.
pub(super) fn flat(config: &TokenizerConfig) -> Result<Settings> {
    let told = |e: toml::ser::Error| Error::Config(e.to_string());
    let sections = toml::Table::try_from(config).map_err(told)?;
    let values = sections.iter().flat_map(|(section, values)| {
        let values = values.as_table().into_iter().flatten();
        values.map(move |(key, value)| (format!("{section}.{key}"), value.to_string()))
    });
    let counts = |key: &str| !INDIFFERENT.contains(&key) && !PATHS.contains(&key);
    Ok(values.filter(|(key, _)| counts(key)).collect())
}

/// Digests of folders and files, each taken once.
#[derive(Default)]
pub(super) struct Digests {
    folders: BTreeMap<PathBuf, (u64, String)>,
    files: BTreeMap<PathBuf, String>,
    books: BTreeMap<PathBuf, Option<String>>,
}

impl Digests {
    /// Pictures in a folder, and the digest of their names and lengths.
    pub(super) fn folder(&mut self, path: &Path) -> Result<(u64, String)> {
        if let Some(found) = self.folders.get(path) {
            return Ok(found.clone());
        }
        let pictures = Pictures::scan(path, true)?;
        let found = (pictures.count() as u64, hex(&pictures.digest()));
        self.folders.insert(path.into(), found.clone());
        Ok(found)
    }

    pub(super) fn file(&mut self, path: &Path) -> Result<String> {
        if let Some(found) = self.files.get(path) {
            return Ok(found.clone());
        }
        let found = weights::digest(path)?;
        self.files.insert(path.into(), found.clone());
        Ok(found)
    }

    /// Of a codebook's entries; `None` where there is none to be read.
    pub(super) fn book(&mut self, path: &Path) -> Option<String> {
        if let Some(found) = self.books.get(path) {
            return found.clone();
        }
        let found = book_digest(path).ok();
        self.books.insert(path.into(), found.clone());
        found
    }
}

/// Of a codebook's entries.
pub(super) fn book_digest(path: &Path) -> Result<String> {
    Ok(hex(&Codebook::read(path)?.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: &[(&str, &str)]) -> Settings {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        all.iter().map(owned).collect()
    }

    #[test]
    fn differences_are_told_and_what_is_known_of_one_side_only_is_none() {
        let then = settings(&[("run.steps", "4"), (ENTRIES, "aa"), ("run.seed", "0")]);
        assert_eq!(difference(&then, &then), None);
        let now = settings(&[("run.steps", "5"), (DEVICE, "cpu"), ("run.seed", "0")]);
        let told = difference(&then, &now);
        assert_eq!(told.as_deref(), Some("run.steps was 4, is 5"));
        let now = settings(&[("run.steps", "4"), (ENTRIES, "bb"), ("run.seed", "0")]);
        let told = difference(&then, &now);
        assert_eq!(told.as_deref(), Some("codebook's entries was aa, is bb"));
        let told = difference(&then, &settings(&[])).unwrap();
        assert!(told.contains("run.seed was 0, is none"), "{told}");
    }
}
