//! The length of a code that learns the ids while it writes them.
//!
//! A decoder that has the tokens so far can compute the same probabilities, so an arithmetic coder needs these bits (and no more than two
//! beside them): no table is sent and nothing is known beforehand but the number of entries. It is a figure that can be reached, not an
//! estimate of an entropy; another model of the ids may need less.

use std::collections::HashMap;

use serde::Serialize;

/// The neighbour of a token at the edge of its grid; no id while there are fewer than 2^32 entries.
const EDGE: u32 = u32::MAX;
/// How much a token changes the weights of a mixture.
const RATE: f64 = 0.02;
/// The part of that change that goes to all parts alike, so that none is given up for ever.
const SHARED: f64 = 0.001;

/// Bits that codes needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CodeLengths {
    /// Tokens.
    pub tokens: u64,
    /// Of a code that knows how often each id came before.
    pub order0: f64,
    /// Of one that also knows what came beside the same left and below the same upper neighbour.
    pub neighbours: f64,
}

impl CodeLengths {
    /// What was needed after `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            tokens: self.tokens - before.tokens,
            order0: self.order0 - before.order0,
            neighbours: self.neighbours - before.neighbours,
        }
    }

    /// Sums of bits as bits a token.
    pub(super) fn a_token(&self) -> Self {
        let tokens = self.tokens.max(1) as f64;
        Self {
            tokens: self.tokens,
            order0: self.order0 / tokens,
            neighbours: self.neighbours / tokens,
        }
    }
}

/// Counts of ids by their neighbours, and the bits they needed.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveCode {
    uniform: f64,
    order0: Level,
    left: Level,
    up: Level,
    mix: Mix,
    lengths: CodeLengths,
}

impl AdaptiveCode {
    pub(super) fn new(entries: usize) -> Self {
        Self {
            uniform: 1.0 / entries.max(1) as f64,
            order0: Level::default(),
            left: Level::default(),
            up: Level::default(),
            mix: Mix::default(),
            lengths: CodeLengths::default(),
        }
    }

    /// Codes a record of whole rows.
    pub(super) fn add(&mut self, ids: &[u32], cols: usize) {
        for (at, &id) in ids.iter().enumerate() {
            let left = if at % cols > 0 { ids[at - 1] } else { EDGE };
            let up = if at >= cols { ids[at - cols] } else { EDGE };
            let parts = self.predict(left, up, id);
            self.lengths.tokens += 1;
            self.lengths.order0 -= parts[0].log2();
            self.lengths.neighbours -= self.mix.learn(&parts).log2();
            self.order0.learn(EDGE, id);
            self.left.learn(left, id);
            self.up.learn(up, id);
        }
    }

    /// The probability of `id` by its frequency, and by it and one neighbour each.
    fn predict(&self, left: u32, up: u32, id: u32) -> [f64; 3] {
        let order0 = self.order0.predict(EDGE, id, self.uniform);
        [
            order0,
            self.left.predict(left, id, order0),
            self.up.predict(up, id, order0),
        ]
    }

    /// The sums of bits.
    pub(super) fn lengths(&self) -> CodeLengths {
        self.lengths
    }

    /// What was counted given the left and given the upper neighbour.
    pub(super) fn neighbours(&self) -> (&Level, &Level) {
        (&self.left, &self.up)
    }
}

/// How often ids came in each context, and what that predicts: interpolated absolute discounting (Ney, Essen, Kneser, 1994). Of every id
/// seen in a context a part of one occurrence goes to the prediction of a smaller context.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    contexts: HashMap<u32, Context>,
    pairs: HashMap<(u32, u32), u64>,
    once: u64,
    twice: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Context {
    tokens: u64,
    distinct: u64,
}

impl Level {
    /// The probability of `id`; `below` is that of the smaller context. Over all ids it adds up to 1 where `below` does.
    fn predict(&self, context: u32, id: u32, below: f64) -> f64 {
        let Some(seen) = self.contexts.get(&context) else {
            return below;
        };
        // Ney's estimate of the part, kept away from 0 and 1.
        let discount = (self.once as f64 + 0.5) / ((self.once + 2 * self.twice) as f64 + 1.0);
        let count = self.pairs.get(&(context, id)).copied().unwrap_or(0) as f64;
        ((count - discount).max(0.0) + discount * seen.distinct as f64 * below) / seen.tokens as f64
    }

    fn learn(&mut self, context: u32, id: u32) {
        let count = self.pairs.entry((context, id)).or_default();
        *count += 1;
        let seen = self.contexts.entry(context).or_default();
        seen.tokens += 1;
        match *count {
            1 => {
                seen.distinct += 1;
                self.once += 1;
            }
            2 => {
                self.once -= 1;
                self.twice += 1;
            }
            3 => self.twice -= 1,
            _ => {}
        }
    }

    /// How many tokens each context had.
    pub(super) fn contexts(&self) -> impl Iterator<Item = u64> {
        self.contexts.values().map(|context| context.tokens)
    }

    /// How often each pair of context and id came.
    pub(super) fn pairs(&self) -> impl Iterator<Item = u64> {
        self.pairs.values().copied()
    }
}

/// Weights of the parts of a mixture, from how well each has predicted the last tokens: expectation maximisation, a token a step, older
/// ones forgotten.
#[derive(Clone, Copy, Debug)]
struct Mix {
    weights: [f64; 3],
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            weights: [1.0 / 3.0; 3],
        }
    }
}

impl Mix {
    /// The probability that the mixture gave what came, and learns from it.
    fn learn(&mut self, parts: &[f64; 3]) -> f64 {
        let shares: [f64; 3] = std::array::from_fn(|i| self.weights[i] * parts[i]);
        let probability: f64 = shares.iter().sum();
        for (weight, share) in self.weights.iter_mut().zip(shares) {
            let merit = (1.0 - SHARED) * share / probability + SHARED / 3.0;
            *weight += RATE * (merit - *weight);
        }
        // They add up to 1 but for rounding, which must not add up.
        let all: f64 = self.weights.iter().sum();
        self.weights = self.weights.map(|weight| weight / all);
        probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_code_by_hand() {
        let mut code = AdaptiveCode::new(4);
        code.add(&[0, 0, 1], 1);
        // Nothing is known; then one id of one occurrence, of which 3/4 are given away; then one of two, of which 1/6 is.
        let expected: [f64; 3] = [0.25, 0.25 + 0.75 * 0.25, (1.0 / 6.0) * 0.25 / 2.0];
        let bits: f64 = expected.iter().map(|p| -p.log2()).sum();
        assert!((code.lengths().order0 - bits).abs() < 1e-12);
        assert_eq!(code.lengths().tokens, 3);
    }

    #[test]
    fn probabilities_add_up_to_one() {
        let mut code = AdaptiveCode::new(6);
        let ids: Vec<u32> = (0..60).map(|i| [0, 1, 0, 2, 3, 0, 1][i * i % 7]).collect();
        for record in ids.chunks_exact(6) {
            for (left, up) in [(EDGE, EDGE), (0, 1), (3, 5), (EDGE, 2)] {
                let mut sums = [0.0; 3];
                let mut mixed = 0.0;
                for id in 0..6 {
                    let parts = code.predict(left, up, id);
                    assert!(parts.iter().all(|&p| p > 0.0));
                    (0..3).for_each(|i| sums[i] += parts[i]);
                    mixed += { code.mix }.learn(&parts);
                }
                sums.into_iter()
                    .chain([mixed])
                    .for_each(|sum| assert!((sum - 1.0).abs() < 1e-12, "{sum}"));
            }
            code.add(record, 3);
        }
    }
}
