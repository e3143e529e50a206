//! How much of the codebook is used while training goes on.

use candle_core::{Device, Tensor};

use crate::{Error, Result, metrics};

/// Counts of token ids over a window of tokens. Each entry would come up this often in a full window if all were used alike.
const TOKENS_PER_CODE: u64 = 4;

/// Counts of ids since the window began.
#[derive(Clone, Debug)]
pub(super) struct Usage {
    counts: Vec<u32>,
    tokens: u64,
}

impl Usage {
    pub(super) fn new(codes: usize) -> Self {
        Self {
            counts: vec![0; codes],
            tokens: 0,
        }
    }

    /// Adds ids; a full window is emptied first.
    pub(super) fn add(&mut self, ids: &[u32]) {
        if self.tokens >= TOKENS_PER_CODE * self.counts.len() as u64 {
            self.counts.fill(0);
            self.tokens = 0;
        }
        for &id in ids {
            if let Some(count) = self.counts.get_mut(id as usize) {
                *count += 1;
            }
        }
        self.tokens += ids.len() as u64;
    }

    /// Tokens counted.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Share of the entries used, and the perplexity.
    pub(super) fn shares(&self) -> (f64, f64) {
        let counts: Vec<u64> = self.counts.iter().map(|&c| c.into()).collect();
        (metrics::usage(&counts), metrics::perplexity(&counts))
    }

    /// For a checkpoint.
    pub(super) fn state(&self) -> Result<Tensor> {
        Ok(Tensor::from_slice(
            &self.counts,
            self.counts.len(),
            &Device::Cpu,
        )?)
    }

    /// From a checkpoint.
    pub(super) fn load(&mut self, state: &Tensor) -> Result<()> {
        let counts: Vec<u32> = state.to_vec1()?;
        if counts.len() != self.counts.len() {
            return Err(Error::Argument {
                what: "usage counts",
                expected: self.counts.len().to_string(),
                found: counts.len().to_string(),
            });
        }
        self.tokens = counts.iter().map(|&c| u64::from(c)).sum();
        self.counts = counts;
        Ok(())
    }
}
