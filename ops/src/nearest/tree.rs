//! The tree's layout and how it is built.
//!
//! Entries are cut by planes across the widest principal axis into leaves of 16; 16 consecutive leaves make a group, 16 consecutive groups a group of the next
//! level, and so on up to one. For each group the boxes around its 16 members lie side by side, so that one pass over 16 lanes bounds the distance to all of them.

use super::rotation::Rotation;
use crate::lanes::{LANES, Row};

/// The boxes of one level of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    /// For each group of 16 boxes: `width` rows of lower and `width` rows of upper ends.
    pub(crate) boxes: Vec<Row>,
    /// Number of boxes; lanes of the last group beyond it mean nothing.
    pub(crate) count: usize,
}

/// A table cut into leaves.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) dim: usize,
    /// `dim` filled up with zeros to a size that search is compiled for.
    pub(crate) width: usize,
    pub(crate) rotation: Rotation,
    /// The largest length of a rotated entry.
    pub(crate) radius: f32,
    /// Entries as given (not rotated), `width` rows a leaf, an entry a lane. A leaf with fewer than 16 repeats its first.
    pub(crate) leaves: Vec<Row>,
    /// Ids of the entries of a leaf.
    pub(crate) ids: Vec<[u32; LANES]>,
    /// Boxes in rotated coordinates. `levels[0]` bounds the leaves, the last level is one group.
    pub(crate) levels: Vec<Level>,
}

/// Entries in one leaf-to-be: a range of the permuted ids.
type Range = std::ops::Range<usize>;

/// What a build reads.
struct Source<'a> {
    table: &'a [f32],
    dim: usize,
    /// Rotated entries, `[n, dim]`.
    rotated: Vec<f32>,
}

impl Tree {
    /// Builds the tree of a checked table, `dim` at most `width`.
    pub(crate) fn build(table: &[f32], dim: usize, width: usize) -> Self {
        let entries = table.len() / dim;
        let rotation = Rotation::principal(table, dim);
        let mut rotated = vec![0.0; table.len()];
        let mut radius = 0.0f32;
        for (row, y) in table.chunks_exact(dim).zip(rotated.chunks_exact_mut(dim)) {
            radius = radius.max(rotation.apply(row, y));
        }
        let source = Source {
            table,
            dim,
            rotated,
        };
        let mut keys: Vec<u64> = (0..entries as u64).collect();
        let mut unit = LANES;
        while unit * LANES * LANES <= entries {
            unit *= LANES;
        }
        let ranges = source.cut(&mut keys, 0, unit);

        let mut leaves = Vec::with_capacity(ranges.len() * width);
        let mut ids = Vec::with_capacity(ranges.len());
        let mut boxes = Boxes::new(dim, width);
        for range in ranges {
            let members = &keys[range];
            let lanes: [u32; LANES] =
                std::array::from_fn(|i| id(*members.get(i).unwrap_or(&members[0])) as u32);
            for d in 0..width {
                let lane = |i: u32| {
                    if d < dim {
                        table[i as usize * dim + d]
                    } else {
                        0.0
                    }
                };
                leaves.push(Row(lanes.map(lane)));
            }
            let (mut low, mut high) = (vec![f32::INFINITY; dim], vec![f32::NEG_INFINITY; dim]);
            for &lane in &lanes {
                for (d, &y) in source.row(lane as usize).iter().enumerate() {
                    low[d] = low[d].min(y);
                    high[d] = high[d].max(y);
                }
            }
            boxes.push(&low, &high);
            ids.push(lanes);
        }
        let mut levels = vec![boxes.level];
        while let Some(level) = levels.last().filter(|level| level.count > LANES) {
            levels.push(level.above(dim, width));
        }
        Self {
            dim,
            width,
            rotation,
            radius,
            leaves,
            ids,
            levels,
        }
    }
}

/// The entry a key stands for: its low half.
fn id(key: u64) -> usize {
    (key & 0xffff_ffff) as usize
}

/// The unsigned number that sorts as `x` does.
fn ordered(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

impl Source<'_> {
    fn row(&self, id: usize) -> &[f32] {
        &self.rotated[id * self.dim..(id + 1) * self.dim]
    }

    fn entry(&self, id: usize) -> &[f32] {
        &self.table[id * self.dim..(id + 1) * self.dim]
    }

    /// Cuts entries into leaves, as ranges of `keys` (which begin at `start` of the whole). All cuts but the last fall on multiples of `unit`, so that leaves and groups are full.
    fn cut(&self, keys: &mut [u64], start: usize, mut unit: usize) -> Vec<Range> {
        let count = keys.len();
        let (axis, extent) = self.widest(keys);
        if extent == 0.0
            && keys
                .iter()
                .all(|&key| self.entry(id(key)) == self.entry(id(keys[0])))
        {
            // Copies of one entry: only the first can be an answer.
            let least = (0..count).min_by_key(|&i| id(keys[i])).unwrap_or(0);
            keys.swap(0, least);
            return std::iter::once(start..start + 1).collect();
        }
        if count <= LANES {
            return std::iter::once(start..start + count).collect();
        }
        while count <= unit {
            unit /= LANES;
        }
        let middle = count.div_ceil(unit) / 2 * unit;
        for key in keys.iter_mut() {
            let id = id(*key);
            *key = u64::from(ordered(self.rotated[id * self.dim + axis])) << 32 | id as u64;
        }
        keys.select_nth_unstable(middle);
        let (left, right) = keys.split_at_mut(middle);
        let mut ranges = self.cut(left, start, unit);
        ranges.extend(self.cut(right, start + middle, unit));
        ranges
    }

    /// The axis along which entries reach furthest, and how far.
    fn widest(&self, keys: &[u64]) -> (usize, f32) {
        let mut low = [f32::INFINITY; super::MAX_TREE_DIM];
        let mut high = [f32::NEG_INFINITY; super::MAX_TREE_DIM];
        for &key in keys {
            for ((low, high), &y) in low.iter_mut().zip(&mut high).zip(self.row(id(key))) {
                *low = low.min(y);
                *high = high.max(y);
            }
        }
        let mut widest = (0, 0.0);
        for axis in 0..self.dim {
            let extent = high[axis] - low[axis];
            if extent > widest.1 {
                widest = (axis, extent);
            }
        }
        widest
    }
}

/// A level being filled.
struct Boxes {
    dim: usize,
    width: usize,
    level: Level,
}

impl Boxes {
    fn new(dim: usize, width: usize) -> Self {
        Self {
            dim,
            width,
            level: Level {
                boxes: Vec::new(),
                count: 0,
            },
        }
    }

    fn push(&mut self, low: &[f32], high: &[f32]) {
        let lane = self.level.count % LANES;
        if lane == 0 {
            let rows = self.level.boxes.len() + 2 * self.width;
            self.level.boxes.resize(rows, Row([0.0; LANES]));
        }
        let group = self.level.boxes.len() - 2 * self.width;
        for d in 0..self.dim {
            self.level.boxes[group + d].0[lane] = low[d];
            self.level.boxes[group + self.width + d].0[lane] = high[d];
        }
        self.level.count += 1;
    }
}

impl Level {
    /// The level whose boxes are this one's groups.
    fn above(&self, dim: usize, width: usize) -> Self {
        let mut above = Boxes::new(dim, width);
        for (index, group) in self.boxes.chunks_exact(2 * width).enumerate() {
            let lanes = LANES.min(self.count - index * LANES);
            let low: Vec<f32> = group[..dim]
                .iter()
                .map(|row| row.0[..lanes].iter().copied().fold(f32::INFINITY, f32::min))
                .collect();
            let high: Vec<f32> = group[width..width + dim]
                .iter()
                .map(|row| {
                    row.0[..lanes]
                        .iter()
                        .copied()
                        .fold(f32::NEG_INFINITY, f32::max)
                })
                .collect();
            above.push(&low, &high);
        }
        above.level
    }
}
