//! The search through a tree, written once for all kernels.
//!
//! # Why rounding cannot lose the answer
//!
//! Entries are compared by the defining f32 sum `S(b)` itself, in the defining order of operations, so only leaving out a box needs an argument: if an entry `b` in
//! the box has `S(b) <= best`, the computed bound `L` of the box must not exceed the limit computed from `best`. Let `u = 2^-24` and `D` the width.
//!
//! 1. With `d = |z - b|` exact, a difference is off by a factor in `1 +- u` (never by underflow) and each of the `D` fused steps by `1 +- u` and at most 2^-150, so
//!    `d <= (sqrt(best) + sqrt(D 2^-150)) (1 - u)^-((D + 2) / 2)`. `MARGIN_FLOOR` covers the middle term and its like below.
//! 2. The rotation is orthonormal to 1e-12 and computed in f64, then rounded to f32: a rotated vector `y` is off by less than `2u |y|` in length. Hence
//!    `|y_z - y_b| <= d (1 + 1e-12) + 2u (|y_z| + |y_b|)`, and the last term is at most `margin`, which uses the longest entry's length.
//! 3. The box contains `y_b` (its ends are minima and maxima of the very same f32), so its exact distance to `y_z` is at most that. The computed `L` is larger
//!    than its square by at most `(1 + u)^(D + 2)`, as in 1.
//!
//! So `sqrt(L) <= (sqrt(best) k + margin) k` with `k >= (1 - u)^-((D + 2) / 2)`; `k = 1 + 2u (D + 4)` leaves room for the roundings of the limit's own computation.
//! Overflow makes `margin` or the limit infinite and then nothing is left out; a bound that is NaN (infinite minus infinite) is not greater than any limit, and is visited.

use super::tree::Tree;
use crate::lanes::{Job, LANES, Lanes, Row};

/// More levels than a tree of `MAX_ENTRIES` entries has.
const MAX_LEVELS: usize = 8;

/// Queries to answer on one thread: `queries` is `[m, dim]`, the outputs are `[m]`. `D` is the tree's width.
pub(crate) struct TreeSearch<'a, const D: usize> {
    pub(crate) tree: &'a Tree,
    pub(crate) queries: &'a [f32],
    pub(crate) ids: &'a mut [u32],
    pub(crate) distances: &'a mut [f32],
}

impl<const D: usize> Job for TreeSearch<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let dim = self.tree.dim;
        let walk = Walk::<L, D> {
            lanes,
            tree: self.tree,
        };
        // Neighbours in space one after the other: the answer of one is a good start for the next, and their leaves are still in the cache.
        let mut order = Vec::with_capacity(self.ids.len());
        let mut points = Vec::with_capacity(self.ids.len());
        for (index, query) in (0u32..).zip(self.queries.chunks_exact(dim)) {
            let mut point = Point {
                z: [0.0; D],
                y: [0.0; D],
                margin: 0.0,
            };
            point.z[..dim].copy_from_slice(query);
            let length = self.tree.rotation.apply(query, &mut point.y[..dim]);
            point.margin = margin(length, self.tree.radius);
            order.push((walk.closest_leaf(&point), index));
            points.push(point);
        }
        order.sort_unstable();
        let mut previous = order.first().map_or(0, |first| first.0);
        for &(leaf, index) in &order {
            let best = walk.nearest(&points[index as usize], leaf, previous);
            self.ids[index as usize] = best.id;
            self.distances[index as usize] = best.distance;
            previous = best.leaf;
        }
    }
}

/// A query.
struct Point<const D: usize> {
    /// As given.
    z: [f32; D],
    /// Rotated.
    y: [f32; D],
    /// How far rounding can have moved the rotated query and an entry away from each other.
    margin: f32,
}

/// Added to every margin: more than underflow can take away, `16 sqrt(16 * 2^-149)`, yet far below distances that occur.
const MARGIN_FLOOR: f32 = 1e-18;

fn margin(length: f32, radius: f32) -> f32 {
    (length + radius) * f32::EPSILON + MARGIN_FLOOR
}

/// The best entry found so far.
#[derive(Clone, Copy)]
struct Best<V> {
    distance: f32,
    id: u32,
    leaf: u32,
    /// `distance` in all lanes.
    distances: V,
    /// In all lanes: a box whose bound is greater cannot hold a better entry.
    limits: V,
}

struct Walk<'a, L, const D: usize> {
    lanes: L,
    tree: &'a Tree,
}

/// Where the walk stands in one group.
#[derive(Clone, Copy)]
struct Frame<V> {
    group: usize,
    /// Members still to visit, a bit each.
    mask: u32,
    bounds: V,
}

/// Leaves to visit. Collecting some before visiting them keeps the processor from waiting for each box test before it can begin on a leaf.
struct Waiting {
    leaves: [u32; WAITING + LANES + 1],
    count: usize,
}

/// Leaves that are collected before they are visited.
const WAITING: usize = 16;

impl Waiting {
    /// Adds the members of a group that `mask` names.
    #[inline(always)]
    fn push(&mut self, group: usize, mut mask: u32) {
        const USUAL: u32 = 4;
        let first = (group * LANES) as u32;
        let members = mask.count_ones();
        // The usual few without a branch on their number; what is written beyond it is written again or not read.
        for place in &mut self.leaves[self.count..][..USUAL as usize] {
            *place = first.wrapping_add(mask.trailing_zeros());
            mask &= mask.wrapping_sub(1);
        }
        for place in &mut self.leaves[self.count..][USUAL as usize..members.max(USUAL) as usize] {
            *place = first + mask.trailing_zeros();
            mask &= mask - 1;
        }
        self.count += members as usize;
    }
}

impl<L: Lanes, const D: usize> Walk<'_, L, D> {
    /// The nearest entry to a point, beginning with two leaves that are likely to be close.
    #[inline(always)]
    fn nearest(&self, point: &Point<D>, leaf: u32, previous: u32) -> Best<L::V> {
        let lanes = self.lanes;
        let z = self.splat(&point.z);
        let y = self.splat(&point.y);
        let infinity = lanes.splat(f32::INFINITY);
        let mut best = Best {
            distance: f32::INFINITY,
            id: u32::MAX,
            leaf,
            distances: infinity,
            limits: infinity,
        };
        self.visit(&z, point.margin, leaf, &mut best);
        if previous != leaf {
            self.visit(&z, point.margin, previous, &mut best);
        }

        // From the closest leaf upwards: its neighbours tighten the limit before anything further away is looked at.
        let mut frames = [Frame {
            group: 0,
            mask: 0,
            bounds: infinity,
        }; MAX_LEVELS];
        let mut waiting = Waiting {
            leaves: [0; WAITING + LANES + 1],
            count: 0,
        };
        let mut home = leaf as usize;
        for reached in 0..self.tree.levels.len() {
            let (group, member) = (home / LANES, home % LANES);
            home = group;
            frames[reached] = self.open(&y, reached, group, &best);
            frames[reached].mask &= !(1 << member);
            let mut level = reached;
            loop {
                if level == 0 {
                    waiting.push(frames[0].group, frames[0].mask);
                    if waiting.count >= WAITING || reached == 0 {
                        self.visit_waiting(&z, point.margin, &mut waiting, &mut best);
                    }
                } else if frames[level].mask != 0 {
                    let frame = &mut frames[level];
                    let member = frame.mask.trailing_zeros();
                    frame.mask &= frame.mask - 1;
                    let child = frame.group * LANES + member as usize;
                    level -= 1;
                    frames[level] = self.open(&y, level, child, &best);
                    continue;
                }
                if level == reached {
                    break;
                }
                level += 1;
                frames[level].mask &= lanes.not_greater(frames[level].bounds, best.limits);
            }
        }
        self.visit_waiting(&z, point.margin, &mut waiting, &mut best);
        best
    }

    /// Visits the leaves that wait, two at a time so that their additions overlap.
    #[inline(always)]
    fn visit_waiting(
        &self,
        z: &[L::V; D],
        margin: f32,
        waiting: &mut Waiting,
        best: &mut Best<L::V>,
    ) {
        let lanes = self.lanes;
        if waiting.count % 2 == 1 {
            waiting.leaves[waiting.count] = waiting.leaves[waiting.count - 1];
        }
        for pair in waiting.leaves[..waiting.count.next_multiple_of(2)].chunks_exact(2) {
            let (a, b) = (self.leaf(pair[0]), self.leaf(pair[1]));
            let mut sums = [lanes.splat(0.0); 2];
            for d in 0..D {
                sums[0] = lanes.add_square(lanes.sub(z[d], lanes.load(&a[d])), sums[0]);
                sums[1] = lanes.add_square(lanes.sub(z[d], lanes.load(&b[d])), sums[1]);
            }
            if lanes.not_greater(lanes.min(sums[0], sums[1]), best.distances) != 0 {
                for (&leaf, sum) in pair.iter().zip(sums) {
                    let mask = lanes.not_greater(sum, best.distances);
                    self.update(sum, mask, margin, leaf, best);
                }
            }
        }
        waiting.count = 0;
    }

    #[inline(always)]
    fn splat(&self, point: &[f32; D]) -> [L::V; D] {
        let mut all = [self.lanes.splat(0.0); D];
        for (v, &x) in all.iter_mut().zip(point) {
            *v = self.lanes.splat(x);
        }
        all
    }

    #[inline(always)]
    fn leaf(&self, leaf: u32) -> &[Row] {
        &self.tree.leaves[leaf as usize * D..][..D]
    }

    /// Bounds of the members of a group, and which of them are worth a visit.
    #[inline(always)]
    fn open(&self, y: &[L::V; D], level: usize, group: usize, best: &Best<L::V>) -> Frame<L::V> {
        let bounds = self.bounds(y, level, group);
        let members = self.tree.levels[level].count - group * LANES;
        let mut mask = self.lanes.not_greater(bounds, best.limits);
        if members < LANES {
            mask &= (1 << members) - 1;
        }
        Frame {
            group,
            mask,
            bounds,
        }
    }

    #[inline(always)]
    fn bounds(&self, y: &[L::V; D], level: usize, group: usize) -> L::V {
        let lanes = self.lanes;
        let boxes = &self.tree.levels[level].boxes[group * 2 * D..][..2 * D];
        let (low, high) = boxes.split_at(D);
        let mut sum = lanes.splat(0.0);
        for d in 0..D {
            let inside = lanes.min(lanes.max(y[d], lanes.load(&low[d])), lanes.load(&high[d]));
            sum = lanes.add_square(lanes.sub(y[d], inside), sum);
        }
        sum
    }

    /// Compares the entries of a leaf with the best so far; says whether one was better.
    #[inline(always)]
    fn visit(&self, z: &[L::V; D], margin: f32, leaf: u32, best: &mut Best<L::V>) -> bool {
        let lanes = self.lanes;
        let rows = &self.tree.leaves[leaf as usize * D..][..D];
        let mut sum = lanes.splat(0.0);
        for d in 0..D {
            sum = lanes.add_square(lanes.sub(z[d], lanes.load(&rows[d])), sum);
        }
        let mask = lanes.not_greater(sum, best.distances);
        if mask == 0 {
            return false;
        }
        self.update(sum, mask, margin, leaf, best)
    }

    #[inline(always)]
    fn update(
        &self,
        sum: L::V,
        mut mask: u32,
        margin: f32,
        leaf: u32,
        best: &mut Best<L::V>,
    ) -> bool {
        let Row(distances) = self.lanes.store(sum);
        let ids = &self.tree.ids[leaf as usize];
        let before = best.distance;
        while mask != 0 {
            let lane = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            if (distances[lane], ids[lane]) < (best.distance, best.id) {
                (best.distance, best.id, best.leaf) = (distances[lane], ids[lane], leaf);
            }
        }
        if best.distance < before {
            // See the head of this file.
            let k = 1.0 + (D + 4) as f32 * f32::EPSILON;
            let reach = best.distance.sqrt() * k + margin;
            best.distances = self.lanes.splat(best.distance);
            best.limits = self.lanes.splat((reach * k) * (reach * k));
        }
        best.distance < before
    }

    /// The leaf reached by always taking the closest box.
    #[inline(always)]
    fn closest_leaf(&self, point: &Point<D>) -> u32 {
        let y = self.splat(&point.y);
        let mut group = 0;
        for level in (0..self.tree.levels.len()).rev() {
            let bounds = self.bounds(&y, level, group);
            let members = (self.tree.levels[level].count - group * LANES).min(LANES);
            group = group * LANES + lowest(self.lanes, bounds, members);
        }
        group as u32
    }
}

/// The lane, of the first `members`, with the least number; any of them when some are NaN.
#[inline(always)]
fn lowest<L: Lanes>(lanes: L, v: L::V, members: usize) -> usize {
    let Row(mut least) = lanes.store(v);
    least[members..].fill(f32::INFINITY);
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            least[i] = if least[i + half] < least[i] {
                least[i + half]
            } else {
                least[i]
            };
        }
    }
    (lanes.not_greater(v, lanes.splat(least[0])).trailing_zeros() as usize).min(members - 1)
}
