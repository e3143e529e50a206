//! Decoded pictures, kept in memory as far as a budget goes.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use vqlc_model::image::{ReadOptions, Rgb, read};

use super::Pictures;

/// Bytes of decoded pictures that are kept unless another number is asked for: 1 GiB.
pub const DEFAULT_CACHE_BYTES: u64 = 1 << 30;

/// A picture that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its path relative to the folder.
    pub name: PathBuf,
    /// Why.
    pub reason: String,
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names come from disks and out of token files: none may steer a terminal.
        let name = self.name.display().to_string();
        write!(f, "{}: {}", printable(&name), printable(&self.reason))
    }
}

/// Text in which control characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Reads pictures. The first ones read stay in memory until the budget is used up: the order of an epoch is random, so no other
/// choice would be asked for sooner. What is kept never changes what is returned.
#[derive(Debug)]
pub struct Source {
    pictures: Pictures,
    /// Decoded; or `None` inside, which was unreadable.
    kept: Vec<OnceLock<Option<Arc<Rgb>>>>,
    /// Bytes of the budget that are left.
    left: AtomicU64,
    skipped: Mutex<BTreeMap<usize, String>>,
}

impl Source {
    /// Of `pictures`, with a budget in bytes for decoded ones (three for each pixel); 0 keeps none.
    pub fn new(pictures: Pictures, cache_bytes: u64) -> Arc<Self> {
        let mut kept = Vec::new();
        kept.resize_with(pictures.count(), OnceLock::new);
        Arc::new(Self {
            pictures,
            kept,
            left: AtomicU64::new(cache_bytes),
            skipped: Mutex::default(),
        })
    }

    /// The pictures it reads.
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }

    /// Picture `index`; `None` if it cannot be read, which [`Self::skipped`] then tells of. One that could not be read once is not
    /// tried again.
    pub(super) fn get(&self, index: usize) -> Option<Arc<Rgb>> {
        if let Some(known) = self.kept[index].get() {
            return known.clone();
        }
        let path = self.pictures.folder().join(self.pictures.name(index));
        let rgb = match read(&path, &ReadOptions::default()) {
            Ok(rgb) => Arc::new(rgb),
            Err(error) => {
                self.skip(index, error.to_string());
                return None;
            }
        };
        let size = rgb.data.len() as u64;
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(size)
            });
        if taken.is_ok() && self.kept[index].set(Some(rgb.clone())).is_err() {
            // Another thread has kept it meanwhile.
            self.left.fetch_add(size, Ordering::Relaxed);
        }
        Some(rgb)
    }

    /// Notes that a picture is of no use.
    pub(super) fn skip(&self, index: usize, reason: String) {
        let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.entry(index).or_insert(reason);
        drop(skipped);
        // If another thread was first it has said the same.
        let _ = self.kept[index].set(None);
    }

    /// The pictures that were met and could not be read so far, in the order of their names.
    pub fn skipped(&self) -> Vec<Skipped> {
        let skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        skipped
            .iter()
            .map(|(&index, reason)| Skipped {
                name: self.pictures.name(index).to_path_buf(),
                reason: reason.clone(),
            })
            .collect()
    }
}
