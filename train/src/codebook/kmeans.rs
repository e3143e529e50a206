//! K-means by Lloyd's iterations (Lloyd 1982), and the choice of its first centres.
//!
//! The start is a seeded draw of distinct features: K-means++ reads all features once for every centre, too often for 100,000 of them.
//! Everything is summed in one fixed order, so the result does not depend on the number of threads.

use std::{collections::HashSet, ops::Range};

use candle_core::{Device, Tensor};
use half::{f16, slice::HalfFloatSliceExt as _};
use rayon::prelude::*;
use vqlc_model::rng::Rng;
use vqlc_ops::tensor::assign;

use super::{Features, Iteration};
use crate::{Error, Result};

/// Features that are assigned at a time, as f32.
const ROWS: usize = 1 << 14;
/// No id: before the first iteration.
const NONE: u32 = u32::MAX;

/// Features that share codes among themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) points: Range<usize>,
    pub(super) codes: Range<usize>,
}

/// Where K-means stands after some iterations.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    /// `[codes, dim]`.
    pub(super) centres: Vec<f32>,
    /// The code of each feature in the last iteration.
    pub(super) ids: Vec<u32>,
    /// Of how many features each centre is the mean.
    pub(super) counts: Vec<u32>,
    pub(super) iteration: u32,
    pub(super) inertia: f64,
    /// Nothing moved any more.
    pub(super) settled: bool,
}

impl State {
    /// The first centres: distinct features drawn at random in each group, in the features' order.
    ///
    /// # Errors
    /// Fewer distinct features than codes.
    pub(super) fn start(features: &Features, groups: &[Group], seed: u64) -> Result<Self> {
        let codes = groups.last().map_or(0, |group| group.codes.end);
        let mut centres = Vec::with_capacity(codes * features.dim());
        for (number, group) in groups.iter().enumerate() {
            // A stream of its own for each group.
            let mut rng = Rng::new(Rng::new(seed ^ number as u64).next_u64());
            for point in distinct(features, group, &mut rng)? {
                centres.extend(features.row(point).iter().map(|v| v.to_f32()));
            }
        }
        Ok(Self {
            centres,
            ids: vec![NONE; features.count()],
            counts: vec![1; codes],
            iteration: 0,
            inertia: 0.0,
            settled: false,
        })
    }

    /// One Lloyd iteration: assign, then move each centre to the mean of its features.
    ///
    /// # Errors
    /// A tensor operation's.
    pub(super) fn iterate(
        &mut self,
        features: &Features,
        groups: &[Group],
        device: &Device,
    ) -> Result<Iteration> {
        let (ids, distances) = self.assign(features, groups, device)?;
        let moved = ids.iter().zip(&self.ids).filter(|(a, b)| a != b).count();
        self.ids = ids;
        self.inertia = distances.iter().map(|&d| f64::from(d)).sum();
        self.iteration += 1;
        self.settled = moved == 0;
        self.move_centres(features);
        let mut reseeded = 0;
        let empty = self.counts.iter().filter(|&&count| count == 0).count();
        for group in groups {
            reseeded += self.reseed(features, group, &distances);
        }
        Ok(Iteration {
            number: self.iteration,
            inertia: self.inertia,
            features: features.count() as u64,
            moved: moved as u64,
            empty: empty as u64,
            reseeded: reseeded as u64,
        })
    }

    fn assign(
        &self,
        features: &Features,
        groups: &[Group],
        device: &Device,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let dim = features.dim();
        let mut ids = Vec::with_capacity(features.count());
        let mut distances = Vec::with_capacity(features.count());
        for group in groups {
            let own = &self.centres[group.codes.start * dim..group.codes.end * dim];
            let centres = Tensor::from_slice(own, (group.codes.len(), dim), device)?;
            let mut start = group.points.start;
            while start < group.points.end {
                let count = ROWS.min(group.points.end - start);
                let rows = features.rows(start..start + count);
                let rows = Tensor::from_vec(rows, (count, dim), device)?;
                let (found, far) = assign(&rows, &centres)?;
                let first = group.codes.start as u32;
                ids.extend(found.to_vec1::<u32>()?.into_iter().map(|id| first + id));
                distances.extend(far.to_vec1::<f32>()?);
                start += count;
            }
        }
        Ok((ids, distances))
    }

    fn move_centres(&mut self, features: &Features) {
        let dim = features.dim();
        // The features of each code, in order: a counting sort.
        let mut ends = vec![0usize; self.counts.len() + 1];
        for &id in &self.ids {
            ends[id as usize + 1] += 1;
        }
        for (count, &found) in self.counts.iter_mut().zip(&ends[1..]) {
            *count = found as u32;
        }
        for i in 1..ends.len() {
            ends[i] += ends[i - 1];
        }
        let (starts, mut next) = (ends.clone(), ends);
        let mut members = vec![0u32; self.ids.len()];
        for (point, &id) in (0..).zip(&self.ids) {
            members[next[id as usize]] = point;
            next[id as usize] += 1;
        }
        let centres = self.centres.par_chunks_mut(dim).enumerate();
        centres.for_each(|(code, centre)| {
            let own = &members[starts[code]..starts[code + 1]];
            if own.is_empty() {
                return;
            }
            let mut sums = vec![0f64; dim];
            for &point in own {
                for (sum, value) in sums.iter_mut().zip(features.row(point as usize)) {
                    *sum += f64::from(value.to_f32());
                }
            }
            for (value, sum) in centre.iter_mut().zip(sums) {
                *value = (sum / own.len() as f64) as f32;
            }
        });
    }

    /// Moves centres without features to the features farthest from theirs. Returns how many; the others stay where they were.
    fn reseed(&mut self, features: &Features, group: &Group, distances: &[f32]) -> usize {
        let dim = features.dim();
        let empty: Vec<usize> = (group.codes.clone())
            .filter(|&code| self.counts[code] == 0)
            .collect();
        if empty.is_empty() {
            return 0;
        }
        let mut far: Vec<usize> = (group.points.clone())
            .filter(|&point| distances[point] > 0.0)
            .collect();
        far.par_sort_unstable_by(|&a, &b| distances[b].total_cmp(&distances[a]).then(a.cmp(&b)));
        let mut taken: HashSet<&[u16]> = HashSet::new();
        let mut fresh = far
            .into_iter()
            .filter(|&point| taken.insert(features.row(point).reinterpret_cast()));
        let mut reseeded = 0;
        for code in empty {
            let Some(point) = fresh.next() else {
                break;
            };
            let centre = &mut self.centres[code * dim..(code + 1) * dim];
            for (value, feature) in centre.iter_mut().zip(features.row(point)) {
                *value = feature.to_f32();
            }
            self.counts[code] = 1;
            reseeded += 1;
        }
        reseeded
    }
}

/// As many distinct features of a group as it has codes, drawn at random, in ascending order.
fn distinct(features: &Features, group: &Group, rng: &mut Rng) -> Result<Vec<usize>> {
    let wanted = group.codes.len();
    // u32 is enough for ids, so it is for features: the budget is checked for it.
    let mut order: Vec<u32> = (group.points.start as u32..group.points.end as u32).collect();
    let mut seen: HashSet<&[u16]> = HashSet::with_capacity(wanted);
    let mut chosen = Vec::with_capacity(wanted);
    // Fisher and Yates, only as far as needed.
    for i in 0..order.len() {
        if chosen.len() == wanted {
            break;
        }
        let other = i + (rng.next_u64() % (order.len() - i) as u64) as usize;
        order.swap(i, other);
        let point = order[i] as usize;
        let row: &[f16] = features.row(point);
        if seen.insert(row.reinterpret_cast()) {
            chosen.push(point);
        }
    }
    if chosen.len() < wanted {
        return Err(Error::Argument {
            what: "different features",
            expected: format!("at least {wanted}{}", group.name),
            found: format!(
                "{} among {}: more pictures or more views are needed, or fewer codes",
                chosen.len(),
                group.points.len()
            ),
        });
    }
    chosen.sort_unstable();
    Ok(chosen)
}
