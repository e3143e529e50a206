//! Every tensor operation of a device against the CPU's, values and gradients, on numbers made up here.
//!
//! Shapes are such that each kernel is met: maps that fill packs of 16 bytes and maps that do not, tiles left half full, paddings that
//! differ, every dimension the search has a kernel of its own for, and one that it has not.

use candle_core::{DType, Device, Result, Tensor, Var};
use half::bf16;
use vqlc_ops::tensor::{self, Window};

use crate::{reference::Comparison, rng::Rng};

/// What f32 sums in another order may differ by, and what operands rounded to bf16 may.
const F32_LIMIT: f64 = 2e-5;
const BF16_LIMIT: f64 = 1.5e-2;

/// Compares the operations of [`vqlc_ops::tensor`] on `device` with those on the CPU. `error` is `||a - b|| / ||b||` of values and of
/// each gradient, or the share of ids that differ. In f32, and where the device is CUDA with `compute` bf16 too.
///
/// # Errors
/// An operation's on either device.
pub fn compare(device: &Device) -> Result<Vec<Comparison>> {
    let mut suite = Suite {
        device,
        rng: Rng::new(11),
        made: Vec::new(),
    };
    let mut computes = vec![(DType::F32, F32_LIMIT)];
    if device.is_cuda() {
        computes.push((DType::BF16, BF16_LIMIT));
    }
    for (compute, limit) in computes {
        suite.compute(compute, limit)?;
        suite.sizes(compute, limit)?;
    }
    suite.nearest()?;
    suite.assign()?;
    Ok(suite.made)
}

struct Suite<'a> {
    device: &'a Device,
    rng: Rng,
    made: Vec<Comparison>,
}

impl Suite<'_> {
    /// The operations that have a `compute` dtype or kernels for each.
    fn compute(&mut self, compute: DType, limit: f64) -> Result<()> {
        let down = Window {
            stride: 2,
            padding: (0, 1),
        };
        let halve = Window {
            stride: 2,
            padding: (1, 1),
        };
        let wider = Window {
            stride: 2,
            padding: (1, 2),
        };
        for (x, weight, window) in [
            ([2, 16, 16, 16], [24, 16, 3, 3], Window::same(1)),
            ([2, 3, 13, 11], [5, 3, 3, 3], Window::same(1)),
            ([3, 16, 16, 16], [16, 16, 3, 3], down),
            ([2, 8, 9, 9], [8, 8, 1, 1], Window::same(0)),
            ([2, 8, 16, 16], [16, 8, 4, 4], halve),
            ([1, 3, 8, 8], [8, 3, 1, 1], Window::same(0)),
        ] {
            let name = format!("conv2d {x:?} by {weight:?} step {}", window.stride);
            let inputs: [&[usize]; 3] = [&x, &weight, &weight[..1]];
            self.check(&name, compute, limit, &inputs, |t, compute| {
                tensor::conv2d(&t[0], &t[1], Some(&t[2]), window, compute)
            })?;
            self.check(
                &format!("{name}, no bias"),
                compute,
                limit,
                &inputs[..2],
                |t, compute| tensor::conv2d(&t[0], &t[1], None, window, compute),
            )?;
        }
        for (x, side, window) in [
            ([2, 16, 16, 16], 3, Window::same(1)),
            ([2, 6, 13, 11], 5, wider),
        ] {
            let name = format!("depthwise {x:?} by {side}, step {}", window.stride);
            let inputs: [&[usize]; 3] = [&x, &[x[1], 1, side, side], &x[1..2]];
            self.check(&name, compute, limit, &inputs, |t, compute| {
                tensor::depthwise(&t[0].to_dtype(compute)?, &t[1], Some(&t[2]), window)
            })?;
        }
        for (x, groups, swish) in [
            ([2, 64, 16, 16], 32, true),
            ([2, 64, 16, 16], 32, false),
            ([3, 32, 5, 7], 32, true),
            ([1, 96, 4, 2], 8, false),
        ] {
            let with = if swish { "and swish" } else { "alone" };
            let name = format!("group_norm {with} {x:?} in {groups}");
            let inputs: [&[usize]; 3] = [&x, &x[1..2], &x[1..2]];
            self.check(&name, compute, limit, &inputs, |t, compute| {
                let x = t[0].to_dtype(compute)?;
                tensor::group_norm(&x, &t[1], &t[2], groups, 1e-6, swish)
            })?;
        }
        Ok(())
    }

    /// What moves and bends numbers without weights.
    fn sizes(&mut self, compute: DType, limit: f64) -> Result<()> {
        let x: [&[usize]; 1] = [&[2, 5, 9, 8]];
        let two: [&[usize]; 2] = [x[0], x[0]];
        self.check("upsample2", compute, limit, &x, |t, compute| {
            tensor::upsample2(&t[0].to_dtype(compute)?)
        })?;
        self.check("max_pool2", compute, limit, &x, |t, compute| {
            tensor::max_pool2(&t[0].to_dtype(compute)?)
        })?;
        self.check("relu6", compute, limit, &x, |t, compute| {
            tensor::relu6(&(t[0].to_dtype(compute)? * 4.0)?)
        })?;
        self.check("leaky_relu", compute, limit, &x, |t, compute| {
            tensor::leaky_relu(&t[0].to_dtype(compute)?, 0.2)
        })?;
        self.check("add", compute, limit, &two, |t, compute| {
            tensor::add(&t[0].to_dtype(compute)?, &t[1].to_dtype(compute)?)
        })
    }

    /// Ids are equal to the bit, also where entries occur twice and where queries lie on entries.
    fn nearest(&mut self) -> Result<()> {
        for (entries, dim, queries) in [
            (1, 8, 5),
            (20_000, 8, 3000),
            (5000, 4, 2500),
            (1500, 16, 700),
            (700, 13, 300),
            (1000, 112, 500),
            (100, 1, 200),
        ] {
            let mut table = self.normal(entries * dim);
            // The last tenth repeats the first: a tie for every query that lands there.
            let repeated = entries / 10 * dim;
            table.copy_within(..repeated, entries * dim - repeated);
            let mut asked = self.normal(queries * dim);
            for (query, entry) in asked
                .chunks_exact_mut(dim)
                .zip(table.chunks_exact(dim))
                .step_by(5)
            {
                query.copy_from_slice(entry);
            }
            let search = |device: &Device| -> Result<Vec<u32>> {
                let queries = Tensor::from_slice(&asked, (queries, dim), device)?;
                let table = Tensor::from_slice(&table, (entries, dim), device)?;
                tensor::nearest(&queries, &table)?.to_vec1()
            };
            let (ours, theirs) = (search(self.device)?, search(&Device::Cpu)?);
            let differ = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
            let differ = differ.max(ours.len().abs_diff(theirs.len()));
            self.made.push(Comparison {
                key: format!("nearest of {entries} x {dim}"),
                error: differ as f64 / queries as f64,
                limit: 0.0,
            });
        }
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bad = Tensor::new(&[[0.0, 1.0], [wrong, 0.0]], self.device)?;
            let good = Tensor::new(&[[0.0f32, 1.0]], self.device)?;
            let taken = [tensor::nearest(&bad, &good), tensor::nearest(&good, &bad)];
            self.made.push(Comparison {
                key: format!("nearest refuses {wrong}"),
                error: taken.iter().filter(|taken| taken.is_ok()).count() as f64,
                limit: 0.0,
            });
        }
        Ok(())
    }

    /// Ids and distances are equal to the bit, also where more centres lie together than candidates are kept, and where bf16 overflows.
    fn assign(&mut self) -> Result<()> {
        for (points, entries, dim) in [(1500, 9000, 112), (300, 1500, 768), (200, 1100, 40)] {
            let mut centres = self.normal(entries * dim);
            let (first, rest) = centres.split_at_mut(dim);
            for near in rest.chunks_exact_mut(dim).take(100) {
                for (near, first) in near.iter_mut().zip(&*first) {
                    *near = first + 1e-4 * self.rng.normal() as f32;
                }
            }
            let mut features = self.normal(points * dim);
            for feature in features.chunks_exact_mut(dim).step_by(7) {
                feature.copy_from_slice(&centres[..dim]);
            }
            features[dim] = f32::MAX / 2.0;
            let nearest = |device: &Device| -> Result<(Vec<u32>, Vec<f32>)> {
                let features = Tensor::from_slice(&features, (points, dim), device)?;
                let centres = Tensor::from_slice(&centres, (entries, dim), device)?;
                let (ids, distances) = tensor::assign(&features, &centres)?;
                Ok((ids.to_vec1()?, distances.to_vec1()?))
            };
            let (ours, theirs) = (nearest(self.device)?, nearest(&Device::Cpu)?);
            let ids = ours.0.iter().zip(&theirs.0).filter(|(a, b)| a != b);
            let far = ours.1.iter().zip(&theirs.1).filter(|(a, b)| a != b);
            let differ = ids.count() + far.count() + ours.0.len().abs_diff(points);
            self.made.push(Comparison {
                key: format!("assign to {entries} x {dim}"),
                error: differ as f64 / points as f64,
                limit: 0.0,
            });
        }
        Ok(())
    }

    /// One operation on inputs of these shapes, its values and the gradient of a random weighting of them to every input.
    fn check(
        &mut self,
        name: &str,
        compute: DType,
        limit: f64,
        shapes: &[&[usize]],
        operation: impl Fn(&[Tensor], DType) -> Result<Tensor>,
    ) -> Result<()> {
        // What bf16 would round is rounded for both, so that one greatest of four is the other's too.
        let rounded = |x: f32| match compute {
            DType::BF16 => bf16::from_f32(x).to_f32(),
            _ => x,
        };
        let values: Vec<Vec<f32>> = shapes
            .iter()
            .map(|shape| {
                let values = self.normal(shape.iter().product());
                values.into_iter().map(rounded).collect()
            })
            .collect();
        let seed = self.rng.next_u64();
        let on = |device: &Device, compute| -> Result<Vec<Vec<f32>>> {
            let mut vars = Vec::new();
            for (values, shape) in values.iter().zip(shapes) {
                vars.push(Var::from_slice(values, *shape, device)?);
            }
            let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
            let y = operation(&inputs, compute)?.to_dtype(DType::F32)?;
            let mut rng = Rng::new(seed);
            let weights: Vec<f32> = (0..y.elem_count()).map(|_| rng.normal() as f32).collect();
            let weights = Tensor::from_vec(weights, y.shape(), device)?;
            let gradients = (&y * weights)?.sum_all()?.backward()?;
            let mut all = vec![y.flatten_all()?.to_vec1()?];
            for var in &vars {
                // An operation that hands back no gradient is seen as one of zeros, which is far off.
                let gradient = match gradients.get(var) {
                    Some(gradient) => gradient.to_dtype(DType::F32)?,
                    None => var.zeros_like()?,
                };
                all.push(gradient.flatten_all()?.to_vec1()?);
            }
            Ok(all)
        };
        let (ours, theirs) = (on(self.device, compute)?, on(&Device::Cpu, DType::F32)?);
        for (part, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let part = match part {
                0 => "values".to_owned(),
                input => format!("gradient {input}"),
            };
            self.made.push(Comparison {
                key: format!("{name}, {}, {part}", compute.as_str()),
                error: distance(ours, theirs),
                limit,
            });
        }
        Ok(())
    }

    fn normal(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.rng.normal() as f32).collect()
    }
}

/// `||a - b|| / ||b||`, or infinity where lengths differ.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let norm = |sum: f64| sum.sqrt();
    let apart = norm(a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum());
    let size = norm(b.iter().map(|b| f64::from(*b).powi(2)).sum());
    if size > 0.0 { apart / size } else { apart }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The comparison itself, which a machine without a GPU can run: the CPU equals the CPU.
    #[test]
    fn the_cpu_equals_itself() {
        let made = compare(&Device::Cpu).unwrap();
        assert!(made.len() > 60, "{}", made.len());
        for comparison in made {
            assert!(comparison.error == 0.0, "{comparison:?}");
        }
    }

    #[test]
    fn a_difference_is_seen() {
        assert!(distance(&[1.0, 2.0], &[1.0, 2.1]) > 1e-2);
        assert!(distance(&[1.0], &[1.0, 2.0]) > 1.0);
        assert!(distance(&[f32::NAN], &[1.0]).is_nan());
    }
}
