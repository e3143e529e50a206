//! What the ids of token files carry, in bits: entropies, and what an entropy coder would need.
//!
//! With a codebook of 100,000 entries most pairs of neighbours are seen once, and entropies read off counts are far too small: they are
//! given as what they are, and beside them the length of a code that can really be written ([`adaptive`](super::adaptive)).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Usage,
    adaptive::{AdaptiveCode, CodeLengths},
};
use crate::{Error, Result};

/// Bits a token. Entropies are those of the shares counted ("plug-in"), which are too small on average; the adaptive lengths can be reached.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EntropyReport {
    /// Tokens counted.
    pub tokens: u64,
    /// `log2 K`: what a code of no knowledge needs.
    pub uniform: f64,
    /// Entropy of the ids, plug-in: biased low.
    pub order0: f64,
    /// The same with the correction of Miller and Madow (Miller, 1955), `(used - 1) / 2N` nats: less biased, too small all the same where
    /// many entries were seen once or not at all.
    pub order0_corrected: f64,
    /// The share of tokens whose id no other token has: about the share that new pictures' tokens would have in entries not seen yet
    /// (Good, 1953).
    pub seen_once: f64,
    /// Given the left neighbour.
    pub left: Conditional,
    /// Given the upper neighbour.
    pub up: Conditional,
    /// The adaptive codes over all tokens.
    pub adaptive: CodeLengths,
    /// Over those since [`IdStatistics::mark`], where the codes have learnt from what was before; absent where there are none.
    pub adaptive_since_mark: Option<CodeLengths>,
}

/// An entropy given a neighbour; the edge of the grid is a neighbour of its own kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Conditional {
    /// Plug-in, biased low: where all pairs are seen once it is near 0 whatever the ids are.
    pub bits: f64,
    /// The share of the tokens whose pair no other token has: how much of the figure is that bias.
    pub pairs_seen_once: f64,
}

/// Counts the ids of records one behind the other. Memory grows with the number of distinct pairs of neighbours.
#[derive(Clone, Debug)]
pub struct IdStatistics {
    usage: Usage,
    code: AdaptiveCode,
    mark: Option<CodeLengths>,
}

impl IdStatistics {
    /// Of a codebook with so many entries.
    pub fn new(entries: usize) -> Self {
        Self {
            usage: Usage::new(entries),
            code: AdaptiveCode::new(entries),
            mark: None,
        }
    }

    /// Counts a record: ids `[rows, cols]`, row-major.
    ///
    /// # Errors
    /// [`Error::Argument`] for an id that names no entry, and for ids that are no whole rows; then none is counted.
    pub fn add(&mut self, ids: &[u32], cols: usize) -> Result<()> {
        if cols == 0 || !ids.len().is_multiple_of(cols) {
            return Err(Error::Argument {
                what: "ids of a record",
                expected: format!("whole rows of {cols}"),
                found: ids.len().to_string(),
            });
        }
        self.usage.add(ids)?;
        self.code.add(ids, cols);
        Ok(())
    }

    /// Remembers how far the counting is, for [`EntropyReport::adaptive_since_mark`].
    pub fn mark(&mut self) {
        self.mark = Some(self.code.lengths());
    }

    /// How often each entry was counted.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// What was found so far; all 0 but `uniform` before the first token.
    pub fn report(&self) -> EntropyReport {
        let tokens = self.usage.tokens();
        let lengths = self.code.lengths();
        let singles = Histogram::of(self.usage.counts().iter().copied());
        let (left, up) = self.code.neighbours();
        let since = self.mark.map(|mark| lengths.since(&mark));
        EntropyReport {
            tokens,
            uniform: (self.usage.counts().len().max(1) as f64).log2(),
            order0: singles.entropy(),
            order0_corrected: singles.corrected(),
            seen_once: singles.once(),
            left: Conditional::of(left.contexts(), left.pairs()),
            up: Conditional::of(up.contexts(), up.pairs()),
            adaptive: lengths.a_token(),
            adaptive_since_mark: since.filter(|l| l.tokens > 0).map(|l| l.a_token()),
        }
    }
}

impl Conditional {
    /// H(context, id) - H(context).
    fn of(contexts: impl Iterator<Item = u64>, pairs: impl Iterator<Item = u64>) -> Self {
        let (contexts, pairs) = (Histogram::of(contexts), Histogram::of(pairs));
        Self {
            // Equal sums of other terms may differ in the last digit.
            bits: (pairs.entropy() - contexts.entropy()).max(0.0),
            pairs_seen_once: pairs.once(),
        }
    }
}

/// How many things have which count. Sums go through it in order, so that they depend on no order of a hash table.
struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    fn of(counts: impl Iterator<Item = u64>) -> Self {
        let mut histogram = BTreeMap::new();
        for count in counts.filter(|&count| count > 0) {
            *histogram.entry(count).or_default() += 1;
        }
        Self(histogram)
    }

    fn total(&self) -> f64 {
        self.0.iter().map(|(&count, &n)| count * n).sum::<u64>() as f64
    }

    /// Bits, `-sum p log2 p`; 0 of nothing.
    fn entropy(&self) -> f64 {
        let total = self.total();
        let terms = self.0.iter().map(|(&count, &n)| {
            let p = count as f64 / total;
            -(n as f64) * p * p.log2()
        });
        // Not -0.0, which an empty sum and log2 of 1 give.
        terms.sum::<f64>().max(0.0)
    }

    fn corrected(&self) -> f64 {
        let things: u64 = self.0.values().sum();
        let nats = things.saturating_sub(1) as f64 / (2.0 * self.total().max(1.0));
        self.entropy() + nats / std::f64::consts::LN_2
    }

    fn once(&self) -> f64 {
        self.0.get(&1).copied().unwrap_or(0) as f64 / self.total().max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use vqlc_model::rng::Rng;

    use super::*;

    fn near(found: f64, expected: f64, within: f64) {
        assert!(
            (found - expected).abs() <= within,
            "{found}, expected {expected}"
        );
    }

    #[test]
    fn one_id_carries_nothing_and_all_alike_carry_log2_k() {
        let mut one = IdStatistics::new(1000);
        assert_eq!(one.report().order0, 0.0);
        one.add(&[7; 10_000], 100).unwrap();
        let report = one.report();
        assert_eq!((report.order0, report.order0_corrected), (0.0, 0.0));
        assert_eq!((report.left.bits, report.up.bits), (0.0, 0.0));
        assert_eq!(report.seen_once, 0.0);
        assert!(report.adaptive.order0 < 0.01 && report.adaptive.neighbours < 0.01);

        let mut all = IdStatistics::new(64);
        let ids: Vec<u32> = (0..64).collect();
        all.add(&ids, 8).unwrap();
        let report = all.report();
        near(report.order0, 6.0, 1e-12);
        near(report.uniform, 6.0, 0.0);
        near(
            report.order0_corrected,
            6.0 + 63.0 / 128.0 / std::f64::consts::LN_2,
            1e-12,
        );
        assert_eq!(report.seen_once, 1.0);
    }

    /// Ids below 4, each followed by one of two others as likely as not: 2 bits by themselves, 1 given the one before.
    fn chain(length: usize) -> Vec<u32> {
        let mut rng = Rng::new(1);
        let mut state = 0;
        let step = |_| {
            state = (2 * state + (rng.next_u64() >> 63) as u32) % 4;
            state
        };
        (0..length).map(step).collect()
    }

    #[test]
    fn a_chain_is_worth_one_bit_along_and_two_across() {
        let ids = chain(20_000);
        // Along rows, then down columns.
        for cols in [ids.len(), 1] {
            let mut statistics = IdStatistics::new(4);
            statistics.add(&ids, cols).unwrap();
            let report = statistics.report();
            let (along, across) = match cols {
                1 => (report.up, report.left),
                _ => (report.left, report.up),
            };
            near(report.order0, 2.0, 0.001);
            near(along.bits, 1.0, 0.001);
            near(across.bits, 2.0, 0.001);
            near(report.adaptive.order0, 2.0, 0.01);
            near(report.adaptive.neighbours, 1.0, 0.02);
            assert!(report.adaptive.neighbours > along.bits);
        }
    }

    #[test]
    fn noise_seems_cheap_given_its_neighbours_and_no_code_is_deceived() {
        let mut rng = Rng::new(3);
        let ids: Vec<u32> = (0..4096).map(|_| (rng.next_u64() % 5000) as u32).collect();
        let mut statistics = IdStatistics::new(5000);
        statistics.add(&ids, 64).unwrap();
        let report = statistics.report();
        assert!(report.left.bits < 1.0 && report.left.pairs_seen_once > 0.99);
        assert!(
            report.order0 < report.order0_corrected && report.order0_corrected < report.uniform
        );
        assert!(report.adaptive.order0 > report.uniform);
        assert!(report.adaptive.neighbours > report.uniform);
    }

    #[test]
    fn what_comes_after_the_mark_is_measured_by_itself() {
        let ids = chain(3_000);
        let mut statistics = IdStatistics::new(4);
        statistics.add(&ids[..2_000], 100).unwrap();
        let before = statistics.report();
        assert_eq!(before.adaptive_since_mark, None);
        statistics.mark();
        assert_eq!(statistics.report().adaptive_since_mark, None);
        statistics.add(&ids[2_000..], 50).unwrap();
        let report = statistics.report();
        let since = report.adaptive_since_mark.unwrap();
        assert_eq!(since.tokens, 1_000);
        let all = 2_000.0 * before.adaptive.order0 + 1_000.0 * since.order0;
        near(all / 3_000.0, report.adaptive.order0, 1e-9);
    }

    #[test]
    fn wrong_records_are_refused_and_not_counted() {
        let mut statistics = IdStatistics::new(4);
        for (ids, cols) in [(&[0, 1, 2][..], 2), (&[0], 0), (&[0, 4], 2)] {
            assert!(statistics.add(ids, cols).is_err());
        }
        assert_eq!(statistics.report().tokens, 0);
    }
}
