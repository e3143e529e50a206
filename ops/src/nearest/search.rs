//! The search through a tree, written once for all kernels.

use super::lanes::{Job, LANES, Lanes, Row};
use super::tree::Tree;

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
    /// How far rounding can have moved query and entry towards or away from each other.
    margin: f32,
}

fn margin(length: f32, radius: f32) -> f32 {
    (length + radius) * f32::EPSILON + 1e-18
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

impl<L: Lanes, const D: usize> Walk<'_, L, D> {
    /// The nearest entry to a point, beginning with two leaves that are likely to be close.
    #[inline(always)]
    fn nearest(&self, point: &Point<D>, leaf: u32, previous: u32) -> Best<L::V> {
        let lanes = self.lanes;
        let z = point.z.map(|x| lanes.splat(x));
        let y = point.y.map(|x| lanes.splat(x));
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

        let top = self.tree.levels.len() - 1;
        let mut frames = [Frame {
            group: 0,
            mask: 0,
            bounds: infinity,
        }; MAX_LEVELS];
        frames[top] = self.open(&y, top, 0, &best);
        let mut level = top;
        loop {
            let frame = &mut frames[level];
            if frame.mask == 0 {
                if level == top {
                    return best;
                }
                level += 1;
                let frame = &mut frames[level];
                frame.mask &= lanes.not_greater(frame.bounds, best.limits);
                continue;
            }
            let member = frame.mask.trailing_zeros();
            frame.mask &= frame.mask - 1;
            let child = frame.group * LANES + member as usize;
            if level > 0 {
                level -= 1;
                frames[level] = self.open(&y, level, child, &best);
            } else if self.visit(&z, point.margin, child as u32, &mut best) {
                frame.mask &= lanes.not_greater(frame.bounds, best.limits);
            }
        }
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
            let k = 1.0 + (D + 4) as f32 * f32::EPSILON;
            let reach = best.distance.sqrt() * k + margin;
            best.distances = self.lanes.splat(best.distance);
            best.limits = self.lanes.splat(reach * reach * k);
        }
        best.distance < before
    }

    /// The leaf reached by always taking the closest box.
    #[inline(always)]
    fn closest_leaf(&self, point: &Point<D>) -> u32 {
        let y = point.y.map(|x| self.lanes.splat(x));
        let mut group = 0;
        for level in (0..self.tree.levels.len()).rev() {
            let Row(bounds) = self.lanes.store(self.bounds(&y, level, group));
            let members = (self.tree.levels[level].count - group * LANES).min(LANES);
            let mut closest = 0;
            for lane in 1..members {
                if bounds[lane] < bounds[closest] {
                    closest = lane;
                }
            }
            group = group * LANES + closest;
        }
        group as u32
    }
}
