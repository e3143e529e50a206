//! The order in which training visits records: a seeded shuffle of `0..n` that is computed, not stored.
//!
//! [`Permutation`] maps a position to a record and back in O(1) memory and expected O(1) time; [`Sampler`] deals the positions of
//! an epoch out to the ranks of a training run. Both are pure functions of their arguments, the same on every machine, and will
//! not change: a checkpoint that names a seed, an epoch and a position must find the same records in every later version.
//!
//! # The permutation, so that others can compute it
//! `mix(x)` is the output function of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014):
//! `x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB; x ^= x >> 31`, and `G = 0x9E3779B97F4A7C15`;
//! all sums and products are modulo 2^64. The key of round `i` is `mix(seed + (i + 1) * G)`, the splitmix64 stream of the seed.
//! Let `b` be the bits of `n - 1`; a position is split into its low `floor(b / 2)` bits, `low`, and the rest, `high`. Eight rounds
//! follow: even ones do `low ^= mix(high + key)`, odd ones `high ^= mix(low + key)`, each cut to the width of its half (a
//! Feistel network whose halves need not be equal). A result that is not below `n` goes through the rounds again until one is
//! ("cycle walking": Black and Rogaway, "Ciphers with arbitrary finite domains", 2002); as `n > 2^(b-1)`, that is fewer than two
//! passes on average. Epoch `e` of a run with seed `s` is the permutation with the seed `mix(mix(s) + (e + 1) * G)`.

const ROUNDS: usize = 8;
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The output function of splitmix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Output `index` of the splitmix64 generator with state `state`.
fn splitmix64(state: u64, index: u64) -> u64 {
    mix(state.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// A pseudo-random permutation of `0..n`.
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    low_bits: u32,
    low_mask: u64,
    high_mask: u64,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of `0..n` that belongs to `seed`; any `n` will do.
    pub fn new(n: u64, seed: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let low_bits = bits / 2;
        Self {
            n,
            low_bits,
            low_mask: (1 << low_bits) - 1,
            high_mask: (1 << (bits - low_bits)) - 1,
            keys: std::array::from_fn(|round| splitmix64(seed, round as u64)),
        }
    }

    /// How many positions there are.
    pub fn len(&self) -> u64 {
        self.n
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// The index at `position`.
    ///
    /// # Panics
    /// If `position >= n`, as slice indexing does.
    pub fn at(&self, position: u64) -> u64 {
        self.walk(position, |low, high| {
            for keys in self.keys.as_chunks::<2>().0 {
                *low ^= mix(high.wrapping_add(keys[0])) & self.low_mask;
                *high ^= mix(low.wrapping_add(keys[1])) & self.high_mask;
            }
        })
    }

    /// The position of `index`: `inverse(at(p)) == p`.
    ///
    /// # Panics
    /// If `index >= n`, as slice indexing does.
    pub fn inverse(&self, index: u64) -> u64 {
        self.walk(index, |low, high| {
            for keys in self.keys.as_chunks::<2>().0.iter().rev() {
                *high ^= mix(low.wrapping_add(keys[1])) & self.high_mask;
                *low ^= mix(high.wrapping_add(keys[0])) & self.low_mask;
            }
        })
    }

    /// Applies the rounds until the result is below `n`. They permute `0..2^b`, so the walk at the latest ends where it began.
    fn walk(&self, start: u64, rounds: impl Fn(&mut u64, &mut u64)) -> u64 {
        assert!(start < self.n, "{start} is not in 0..{}", self.n);
        let mut value = start;
        loop {
            let (mut low, mut high) = (value & self.low_mask, value >> self.low_bits);
            rounds(&mut low, &mut high);
            value = high << self.low_bits | low;
            if value < self.n {
                return value;
            }
        }
    }
}

/// What becomes of the last positions of an epoch when they do not go evenly into the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// They are left out, so that every rank takes the same number.
    Drop,
    /// They are dealt out, so that some ranks take one more than others.
    Keep,
    /// Positions from the epoch's start are dealt out again after them, so that every rank takes the same number.
    Pad,
}

/// The part of each epoch that one of several processes takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    rank: u32,
    world: u32,
    tail: Tail,
}

/// A rank must be below the number of ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rank {rank} of a world of {world}: ranks go from 0 to world - 1")]
pub struct ShardError {
    /// The rank asked for.
    pub rank: u32,
    /// The number of ranks.
    pub world: u32,
}

impl Shard {
    /// Rank `rank` of `world`.
    ///
    /// # Errors
    /// If `rank >= world`.
    pub fn new(rank: u32, world: u32, tail: Tail) -> Result<Self, ShardError> {
        if rank < world {
            Ok(Self { rank, world, tail })
        } else {
            Err(ShardError { rank, world })
        }
    }

    /// The only rank of a run on one process; nothing is dropped or padded.
    pub fn whole() -> Self {
        Self {
            rank: 0,
            world: 1,
            tail: Tail::Keep,
        }
    }
}

/// Deals the records of a token file out, epoch by epoch, each in an order of its own.
///
/// All ranks share one position, the number of records the run as a whole has taken from the epoch. Rank `r` of `W` takes the
/// positions congruent to `r` modulo `W`. After every rank has taken `k` records the position is `k * W`
/// ([`Epoch::position`]); a checkpoint that keeps seed, epoch and position is all that is needed to go on, with any `W`.
#[derive(Clone, Debug)]
pub struct Sampler {
    records: u64,
    seed: u64,
    shard: Shard,
}

impl Sampler {
    /// A sampler over `records` records for one rank of a run.
    pub fn new(records: u64, seed: u64, shard: Shard) -> Self {
        Self {
            records,
            seed,
            shard,
        }
    }

    /// The order of an epoch over all ranks: the record at each position.
    pub fn order(&self, epoch: u64) -> Permutation {
        Permutation::new(self.records, splitmix64(mix(self.seed), epoch))
    }

    /// The records of this rank in `epoch` from the global position `start` on; 0 is the epoch's beginning, and nothing is left
    /// when `start` is the number of records or more.
    pub fn epoch(&self, epoch: u64, start: u64) -> Epoch {
        let world = u64::from(self.shard.world);
        let start = start.min(self.records);
        // Position `start` goes to rank `start mod W`; this rank's first lies `offset` behind it.
        let offset = (u64::from(self.shard.rank) + world - start % world) % world;
        let left = self.records - start;
        let taken = match self.shard.tail {
            Tail::Drop => left / world,
            Tail::Keep => left.saturating_sub(offset).div_ceil(world),
            Tail::Pad => left.div_ceil(world),
        };
        Epoch {
            order: self.order(epoch),
            world,
            start,
            offset,
            next: 0,
            end: taken,
        }
    }
}

/// Iterator over the records that one rank takes in the rest of an epoch; see [`Sampler::epoch`].
#[derive(Clone, Debug)]
pub struct Epoch {
    order: Permutation,
    world: u64,
    start: u64,
    offset: u64,
    next: u64,
    end: u64,
}

impl Epoch {
    /// The run's global position once every rank has taken as many records as this one has: what a checkpoint keeps.
    ///
    /// It is the number of records at most. Under [`Tail::Drop`] an epoch is over when the iterator is, whatever the position.
    pub fn position(&self) -> u64 {
        let taken = u128::from(self.next) * u128::from(self.world);
        // At most `records`, so it fits.
        (u128::from(self.start) + taken).min(u128::from(self.order.len())) as u64
    }

    /// Passes over the next `count` records, or all that are left, without looking at them.
    pub fn pass_over(&mut self, count: u64) {
        self.next += count.min(self.remaining());
    }

    /// How many records this rank has yet to take.
    pub fn remaining(&self) -> u64 {
        self.end - self.next
    }
}

impl Iterator for Epoch {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.next == self.end {
            return None;
        }
        let steps = u128::from(self.next) * u128::from(self.world);
        let position = u128::from(self.start) + u128::from(self.offset) + steps;
        self.next += 1;
        // Only padding goes past the last position, and round to the first ones.
        Some(
            self.order
                .at((position % u128::from(self.order.len())) as u64),
        )
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.remaining()).ok();
        (left.unwrap_or(usize::MAX), left)
    }
}
