//! How a codebook's entries are used.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, files::write_whole};

/// How often each entry was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    counts: Vec<u64>,
}

impl Usage {
    /// Of a codebook with so many entries, none of them used yet.
    pub fn new(entries: usize) -> Self {
        Self::from_counts(vec![0; entries])
    }

    /// From counts kept earlier, one for each entry.
    pub fn from_counts(counts: Vec<u64>) -> Self {
        Self { counts }
    }

    /// Counts token ids.
    ///
    /// # Errors
    /// [`Error::Argument`] for an id that names no entry; then none of `ids` is counted.
    pub fn add(&mut self, ids: &[u32]) -> Result<()> {
        let entries = self.counts.len();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= entries) {
            return Err(Error::Argument {
                what: "token id",
                expected: format!("below {entries}"),
                found: id.to_string(),
            });
        }
        for &id in ids {
            self.counts[id as usize] += 1;
        }
        Ok(())
    }

    /// The histogram.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Tokens counted.
    pub fn tokens(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Entries chosen at least once.
    pub fn used(&self) -> usize {
        self.counts.iter().filter(|&&count| count > 0).count()
    }

    /// The share of entries chosen at least once, from 0 to 1; 0 of an empty codebook.
    pub fn share(&self) -> f64 {
        self.used() as f64 / self.counts.len().max(1) as f64
    }

    /// exp(-sum p ln p) with p the shares of the tokens: from 1 (one entry takes all) to the number of entries (all alike).
    /// 1 if nothing was counted.
    pub fn perplexity(&self) -> f64 {
        let tokens = self.tokens() as f64;
        let used = self.counts.iter().filter(|&&count| count > 0);
        let terms = used.map(|&count| {
            let p = count as f64 / tokens;
            -p * p.ln()
        });
        terms.sum::<f64>().exp()
    }
}

/// How much of a codebook some tokens use (paper section 4.1).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct UsageShare {
    /// Tokens counted.
    pub tokens: u64,
    /// Share of the entries used at least once.
    pub utilisation: f64,
    /// exp of the entropy of the ids.
    pub perplexity: f64,
}

impl UsageShare {
    /// Of what was counted.
    pub fn of(usage: &Usage) -> Self {
        Self {
            tokens: usage.tokens(),
            utilisation: usage.share(),
            perplexity: usage.perplexity(),
        }
    }
}

/// Writes counts as safetensors: i64 `[K]` under each name.
///
/// # Errors
/// A file that cannot be written.
pub fn write_counts(path: &Path, counts: &[(&str, &Usage)]) -> Result<()> {
    let tensors = counts.iter().map(|(name, usage)| {
        let counts: Vec<i64> = usage.counts.iter().map(|&c| c as i64).collect();
        let entries = counts.len();
        Ok((*name, Tensor::from_vec(counts, entries, &Device::Cpu)?))
    });
    let tensors: Vec<(&str, Tensor)> = tensors.collect::<Result<_>>()?;
    let bytes =
        safetensors::serialize(tensors, None).map_err(|e| Error::malformed(path, e.to_string()))?;
    write_whole(path, &bytes)
}

/// How the last tokens of a run used the entries: counts of so many tokens, shown until the next as many are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    tokens: u64,
    filling: Usage,
    full: Option<Usage>,
}

impl Window {
    /// Of `tokens` tokens, at least.
    pub fn new(entries: usize, tokens: u64) -> Self {
        Self {
            tokens,
            filling: Usage::new(entries),
            full: None,
        }
    }

    /// Counts token ids.
    ///
    /// # Errors
    /// As [`Usage::add`].
    pub fn add(&mut self, ids: &[u32]) -> Result<()> {
        self.filling.add(ids)?;
        if self.filling.tokens() >= self.tokens {
            let next = Usage::new(self.filling.counts.len());
            self.full = Some(std::mem::replace(&mut self.filling, next));
        }
        Ok(())
    }

    /// The last window that was filled; the first one also before it is.
    pub fn shown(&self) -> &Usage {
        self.full.as_ref().unwrap_or(&self.filling)
    }

    /// What a checkpoint keeps: the counts so far, and those of the last window that was filled.
    pub fn parts(&self) -> (&Usage, Option<&Usage>) {
        (&self.filling, self.full.as_ref())
    }

    /// From what a checkpoint kept.
    pub fn set(&mut self, filling: Usage, full: Option<Usage>) {
        (self.filling, self.full) = (filling, full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_shown_until_the_next_is_full() {
        let mut window = Window::new(3, 4);
        window.add(&[0, 1, 1]).unwrap();
        assert_eq!(window.shown().counts(), [1, 2, 0]);
        window.add(&[1]).unwrap();
        window.add(&[2, 2, 2]).unwrap();
        assert_eq!(window.shown().counts(), [1, 3, 0]);
        let mut other = Window::new(3, 4);
        let (filling, full) = window.parts();
        other.set(filling.clone(), full.cloned());
        assert_eq!(other, window);
        window.add(&[2]).unwrap();
        assert_eq!(window.shown().counts(), [0, 0, 4]);
        assert!(window.add(&[3]).is_err());
    }

    #[test]
    fn known_usages() {
        let mut usage = Usage::new(4);
        assert_eq!((usage.used(), usage.perplexity()), (0, 1.0));
        usage.add(&[2, 2, 2]).unwrap();
        assert_eq!((usage.share(), usage.perplexity()), (0.25, 1.0));
        assert!(usage.add(&[0, 4]).is_err());
        assert_eq!(usage.counts(), [0, 0, 3, 0]);
        usage.add(&[0, 0, 0, 1, 1, 1, 3, 3, 3]).unwrap();
        assert_eq!((usage.tokens(), usage.share()), (12, 1.0));
        assert!((usage.perplexity() - 4.0).abs() < 1e-12);
        assert_eq!(Usage::new(0).share(), 0.0);
    }
}
