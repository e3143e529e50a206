//! The nearest of many centres for many points: K-means' assignment.

use candle_core::{DType, Device, Error, Result, Storage, Tensor};
use rayon::prelude::*;

use crate::{NearestIndex, plain::distance};

/// Up to this dimension the search tree is faster than multiplying with every centre.
const TREE_DIM: usize = 16;
/// Points and centres of one product: 1 MiB of scores, which a core's own cache holds.
const POINTS: usize = 256;
const CENTRES: usize = 1024;
/// Entries looked at together when the least score of a row is sought.
const LANES: usize = 16;

/// For each row of `points` `[m, d]` (f32) the row of `centres` `[n, d]` (f32) nearest to it: ids `[m]` (u32) and squared distances `[m]`
/// (f32), on the device of the points. Distance and ties are [`NearestIndex`]'s: the f32 sum over ascending d of `(p_d - c_d)^2` with
/// fused multiply-add, and the lowest of equally near ids. Has no gradient.
///
/// Scores `|c|^2 - 2 p.c` come from products of blocks, `m * n` of them are never held; every centre whose score is within rounding of the
/// best is then measured by the definition. So the result depends on neither blocks nor threads.
///
/// # Errors
/// Shapes that do not fit, no centres, numbers that are not finite; a tensor operation's.
pub fn assign(points: &Tensor, centres: &Tensor) -> Result<(Tensor, Tensor)> {
    let (count, dim) = points.dims2()?;
    let (entries, centre_dim) = centres.dims2()?;
    if dim != centre_dim || dim == 0 || entries == 0 {
        candle_core::bail!(
            "assign: points of {dim} numbers, {entries} centres of {centre_dim}: nothing to compare"
        );
    }
    #[cfg(feature = "cuda")]
    if points.device().is_cuda() {
        return crate::cuda::assign(points, centres);
    }
    let device = points.device();
    let values = |t: &Tensor| -> Result<Vec<f32>> {
        let t = t.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let values = t.flatten_all()?.to_vec1::<f32>()?;
        if !values.par_iter().all(|v| v.is_finite()) {
            candle_core::bail!("assign: a number is not finite");
        }
        Ok(values)
    };
    let (points, centres) = (values(points)?, values(centres)?);
    let ids = if dim <= TREE_DIM {
        let index = NearestIndex::build(&centres, dim).map_err(Error::wrap)?;
        let mut ids = vec![0; count];
        index.search(&points, &mut ids).map_err(Error::wrap)?;
        ids
    } else {
        blocked(&points, &centres, dim)?
    };
    let measure =
        |(point, &id): (&[f32], &u32)| distance(point, &centres[id as usize * dim..][..dim]);
    let distances: Vec<f32> = points
        .par_chunks_exact(dim)
        .zip(&ids)
        .map(measure)
        .collect();
    Ok((
        Tensor::from_vec(ids, count, device)?,
        Tensor::from_vec(distances, count, device)?,
    ))
}

/// What is known of a point so far.
struct Best {
    score: f32,
    /// By how much a score may be off and the distance still the least.
    margin: f32,
    /// Centres whose score was within the margin of the least when they were met, in ascending order.
    near: Vec<(u32, f32)>,
}

fn blocked(points: &[f32], centres: &[f32], dim: usize) -> Result<Vec<u32>> {
    let norm = |row: &[f32]| {
        row.iter()
            .map(|&v| f64::from(v) * f64::from(v))
            .sum::<f64>()
    };
    let norms: Vec<f64> = centres.par_chunks_exact(dim).map(norm).collect();
    let longest = norms.iter().copied().fold(0.0, f64::max).sqrt();
    // Each centre with its squared length behind it, and -2 times each point with a one: the product is the score.
    let blocks = (centres.chunks(CENTRES * dim))
        .zip(norms.chunks(CENTRES))
        .map(|(block, norms)| {
            let mut rows = Vec::with_capacity(block.len() + norms.len());
            for (row, &norm) in block.chunks_exact(dim).zip(norms) {
                rows.extend_from_slice(row);
                rows.push(norm as f32);
            }
            Tensor::from_vec(rows, (norms.len(), dim + 1), &Device::Cpu)?.t()
        })
        .collect::<Result<Vec<_>>>()?;
    let mut ids = Vec::with_capacity(points.len() / dim);
    for points in points.chunks(POINTS * dim) {
        let mut rows = Vec::with_capacity(points.len() + points.len() / dim);
        let mut best = Vec::with_capacity(points.len() / dim);
        for row in points.chunks_exact(dim) {
            rows.extend(row.iter().map(|v| -2.0 * v));
            rows.push(1.0);
            best.push(Best {
                score: f32::INFINITY,
                margin: margin(norm(row).sqrt(), longest, dim),
                near: Vec::new(),
            });
        }
        let rows = Tensor::from_vec(rows, (best.len(), dim + 1), &Device::Cpu)?;
        for (number, block) in blocks.iter().enumerate() {
            let product = rows.matmul(block)?;
            let (storage, _) = product.storage_and_layout();
            let Storage::Cpu(storage) = &*storage else {
                candle_core::bail!("assign: a product on the CPU is elsewhere");
            };
            let scores = storage.as_slice::<f32>()?;
            let width = block.dim(1)?;
            let first = (number * CENTRES) as u32;
            best.par_iter_mut()
                .zip(scores.par_chunks_exact(width))
                .for_each(|(best, scores)| best.meet(scores, first));
        }
        ids.par_extend(
            best.par_iter()
                .zip(points.par_chunks_exact(dim))
                .map(|(best, point)| best.settle(point, centres, dim)),
        );
    }
    Ok(ids)
}

/// How far apart two scores may lie whose distances, by the definition, are the other way round. A sum of `dim + 1` f32 products is off by
/// at most `(dim + 1) eps` times the sum of their sizes (Higham 2002, 3.1), which is at most `|c|^2 + 2 |p| |c|`; the defined distance likewise
/// by `(dim + 2) eps (|p| + |c|)^2`. Twice both, since two centres are compared.
fn margin(point: f64, longest: f64, dim: usize) -> f32 {
    let size = (point + longest) * (point + longest);
    (4.0 * (dim + 3) as f64 * f64::from(f32::EPSILON) * size) as f32
}

impl Best {
    fn meet(&mut self, scores: &[f32], first: u32) {
        let least = least(scores);
        if least > self.score + self.margin {
            return;
        }
        self.score = self.score.min(least);
        let limit = self.score + self.margin;
        for (id, &score) in (first..).zip(scores) {
            if score <= limit {
                self.near.push((id, score));
            }
        }
    }

    fn settle(&self, point: &[f32], centres: &[f32], dim: usize) -> u32 {
        let limit = self.score + self.margin;
        let mut near = self.near.iter().filter(|(_, score)| *score <= limit);
        let first = near.next().map_or(0, |(id, _)| *id);
        let measure = |id: u32| distance(point, &centres[id as usize * dim..][..dim]);
        let mut found = (first, None);
        for &(id, _) in near {
            let least = found.1.unwrap_or_else(|| measure(found.0));
            let this = measure(id);
            found = if this < least {
                (id, Some(this))
            } else {
                (found.0, Some(least))
            };
        }
        found.0
    }
}

/// The least of `scores`, in lanes so that it is compiled to vector instructions.
fn least(scores: &[f32]) -> f32 {
    let lower = |a: f32, b: f32| if b < a { b } else { a };
    let mut lanes = [f32::INFINITY; LANES];
    let chunks = scores.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane = lower(*lane, score);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::INFINITY, lower)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain;

    /// Numbers of a simple generator; `steps` different values, so that a few give many exact ties.
    fn numbers(count: usize, steps: u64, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) % steps) as f32 / steps as f32 * 2.0 - 1.0
            })
            .collect()
    }

    fn check(count: usize, entries: usize, dim: usize, steps: u64) {
        let (points, centres) = (
            numbers(count * dim, steps, 1),
            numbers(entries * dim, steps, 2),
        );
        let tensor = |v: &Vec<f32>, n| Tensor::from_slice(v, (n, dim), &Device::Cpu).unwrap();
        let (ids, distances) = assign(&tensor(&points, count), &tensor(&centres, entries)).unwrap();
        let (ids, distances) = (
            ids.to_vec1::<u32>().unwrap(),
            distances.to_vec1::<f32>().unwrap(),
        );
        for (i, point) in points.chunks(dim).enumerate() {
            let (mut best, mut id) = (f32::INFINITY, 0);
            for (k, centre) in centres.chunks(dim).enumerate() {
                let distance = distance(point, centre);
                if distance < best {
                    (best, id) = (distance, k as u32);
                }
            }
            assert_eq!(
                (ids[i], distances[i]),
                (id, best),
                "point {i} of {count}, d {dim}"
            );
        }
        let mut defined = vec![0; count];
        plain::nearest(&centres, dim, &points, &mut defined).unwrap();
        assert_eq!(ids, defined);
    }

    #[test]
    fn blocks_give_what_the_definition_gives() {
        check(1100, 2100, 20, 1 << 20);
        // Values -1, -0.5, 0, 0.5: many centres are equally near.
        check(300, 1500, 17, 4);
        check(50, 40, 112, 1 << 20);
        check(100, 1, 33, 7);
        check(200, 300, 8, 3);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let t = |n: usize, d: usize| Tensor::ones((n, d), DType::F32, &Device::Cpu).unwrap();
        assert!(assign(&t(2, 3), &t(2, 4)).is_err());
        let nan = (t(2, 20) * f64::NAN).unwrap();
        assert!(assign(&nan, &t(2, 20)).is_err());
        let none = Tensor::from_vec(Vec::<f32>::new(), (0, 20), &Device::Cpu).unwrap();
        assert!(assign(&t(2, 20), &none).is_err());
        assert_eq!(assign(&none, &t(2, 20)).unwrap().0.dims(), [0]);
    }
}
