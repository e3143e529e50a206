//! Search over all entries, for dimensions at which a tree rules out too little.

use crate::lanes::{Job, LANES, Lanes, Row};

/// Queries that go through a block together, so that one load of an entry serves several and their additions overlap.
const TOGETHER: usize = 4;

/// Bytes of the table that stay in a core's cache while all queries go through them.
const TILE: usize = 256 << 10;

/// A table with sixteen entries side by side.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    pub(crate) dim: usize,
    entries: usize,
    /// `dim` rows a block, entry `16 * block + lane`; the last block repeats the last entry.
    rows: Vec<Row>,
}

impl Blocks {
    /// Lays out a checked table.
    pub(crate) fn build(table: &[f32], dim: usize) -> Self {
        let entries = table.len() / dim;
        let mut rows = Vec::with_capacity(entries.div_ceil(LANES) * dim);
        for block in 0..entries.div_ceil(LANES) {
            for d in 0..dim {
                rows.push(Row(std::array::from_fn(|lane| {
                    table[entry(block, lane, entries) * dim + d]
                })));
            }
        }
        Self { dim, entries, rows }
    }
}

fn entry(block: usize, lane: usize, entries: usize) -> usize {
    (block * LANES + lane).min(entries - 1)
}

/// Queries to answer on one thread: `queries` is `[m, dim]`, the outputs are `[m]`.
pub(crate) struct BlockSearch<'a> {
    pub(crate) blocks: &'a Blocks,
    pub(crate) queries: &'a [f32],
    pub(crate) ids: &'a mut [u32],
    pub(crate) distances: &'a mut [f32],
}

impl Job for BlockSearch<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Blocks {
            dim,
            entries,
            ref rows,
        } = *self.blocks;
        self.ids.fill(0);
        self.distances.fill(f32::INFINITY);
        let tile = (TILE / (dim * size_of::<Row>())).max(1);
        for (number, tile_rows) in rows.chunks(tile * dim).enumerate() {
            let queries = self.queries.chunks(TOGETHER * dim);
            let outputs = self
                .ids
                .chunks_mut(TOGETHER)
                .zip(self.distances.chunks_mut(TOGETHER));
            for (queries, (ids, distances)) in queries.zip(outputs) {
                // A short last group goes with copies of its last query, whose answers are dropped.
                let query: [&[f32]; TOGETHER] =
                    std::array::from_fn(|i| &queries[i.min(ids.len() - 1) * dim..][..dim]);
                for (block, rows) in (number * tile..).zip(tile_rows.chunks_exact(dim)) {
                    let sums = sums(lanes, &query, rows);
                    for ((id, distance), sum) in ids.iter_mut().zip(distances.iter_mut()).zip(sums)
                    {
                        // Entries come in ascending order, so an equal distance keeps the lower id.
                        if lanes.not_greater(lanes.splat(*distance), sum) != u32::from(u16::MAX) {
                            let Row(sum) = lanes.store(sum);
                            for (lane, &sum) in sum.iter().enumerate() {
                                if sum < *distance {
                                    *distance = sum;
                                    *id = entry(block, lane, entries) as u32;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn sums<L: Lanes>(lanes: L, query: &[&[f32]; TOGETHER], rows: &[Row]) -> [L::V; TOGETHER] {
    let mut sums = [lanes.splat(0.0); TOGETHER];
    let [a, b, c, d] = *query;
    for ((((row, &a), &b), &c), &d) in rows.iter().zip(a).zip(b).zip(c).zip(d) {
        let entry = lanes.load(row);
        for (sum, z) in sums.iter_mut().zip([a, b, c, d]) {
            *sum = lanes.add_square(lanes.sub(lanes.splat(z), entry), *sum);
        }
    }
    sums
}
