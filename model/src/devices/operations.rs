//! Every tensor operation of a device against the CPU's, values and gradients, on numbers made up here.
//!
//! Shapes are such that each kernel is met: maps that fill packs of 16 bytes and maps that do not, tiles left half full, paddings that
//! differ, every dimension the search has a kernel of its own for, and one that it has not.

mod f32;
mod searches;

use candle_core::{DType, Device, Result, Tensor, Var};
use half::bf16;
use vqlc_ops::tensor::{self, Maps, Order, Residual, Window};

use crate::{reference::Comparison, rng::Rng};

/// What f32 sums in another order may differ by, and what operands rounded to bf16 may.
const F32_LIMIT: f64 = 2e-5;
const BF16_LIMIT: f64 = 1.5e-2;

/// Compares the operations of [`vqlc_ops::tensor`] on `device` with those on the CPU. `error` is `||a - b|| / ||b||` of values and of
/// each gradient, or the share of ids that differ; infinite where the operation failed, for a reason that `key` then gives. In f32, and where
/// the device is CUDA with `compute` bf16 too.
///
/// # Errors
/// An operation's on the CPU.
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
        for order in [Order::ChannelsFirst, Order::ChannelsLast] {
            suite.convolutions(compute, limit, order)?;
            suite.normalisations(compute, limit, order)?;
            suite.sizes(compute, limit, order)?;
            suite.distances(compute, limit, order)?;
        }
        suite.depthwise(compute, limit)?;
        suite.attention(compute, limit)?;
        suite.activations(compute, limit)?;
    }
    suite.f32_only()?;
    // What went round another way was not the way that is to be checked.
    suite.made.push(Comparison {
        key: "convolutions in bf16 with channels last that cuDNN does not have".into(),
        error: tensor::channels_last_detours() as f64,
        limit: 0.0,
    });
    suite.attempt("cross_entropy", Suite::cross_entropy);
    suite.attempt("upload", Suite::upload);
    suite.attempt("nearest", Suite::nearest);
    suite.attempt("assign", Suite::assign);
    Ok(suite.made)
}

struct Suite<'a> {
    device: &'a Device,
    rng: Rng,
    made: Vec<Comparison>,
}

impl Suite<'_> {
    fn convolutions(&mut self, compute: DType, limit: f64, order: Order) -> Result<()> {
        let down = Window {
            stride: 2,
            padding: (0, 1),
        };
        let halve = Window {
            stride: 2,
            padding: (1, 1),
        };
        for (x, weight, window) in [
            ([2, 16, 16, 16], [24, 16, 3, 3], Window::same(1)),
            ([2, 3, 13, 11], [5, 3, 3, 3], Window::same(1)),
            ([3, 16, 16, 16], [16, 16, 3, 3], down),
            ([2, 8, 9, 9], [8, 8, 1, 1], Window::same(0)),
            ([2, 8, 16, 16], [16, 8, 4, 4], halve),
            ([1, 3, 8, 8], [8, 3, 1, 1], Window::same(0)),
        ] {
            let name = format!(
                "conv2d {x:?} by {weight:?} step {}{}",
                window.stride,
                said(order)
            );
            let inputs: [&[usize]; 3] = [&x, &weight, &weight[..1]];
            self.check(&name, compute, limit, &inputs, |t, compute| {
                let maps = Maps { compute, order };
                around(order, &t[0], |x| {
                    tensor::conv2d(x, &t[1], Some(&t[2]), window, maps)
                })
            })?;
            let name = format!("{name}, no bias");
            self.check(&name, compute, limit, &inputs[..2], |t, compute| {
                let maps = Maps { compute, order };
                around(order, &t[0], |x| {
                    tensor::conv2d(x, &t[1], None, window, maps)
                })
            })?;
            // As inference has it: the weight was prepared.
            let name = format!("{name}, prepared");
            self.check(&name, compute, limit, &inputs[..2], |t, compute| {
                let maps = Maps { compute, order };
                let weight = maps.prepare(&t[1].detach())?;
                let y = around(order, &t[0], |x| {
                    tensor::conv2d(x, &weight, None, window, maps)
                })?;
                beside(&y, &t[1..])
            })?;
        }
        for (inputs, outputs, groups) in [(16, 16, [4, 4]), (8, 24, [2, 6]), (6, 6, [2, 3])] {
            self.residual(inputs, outputs, groups, (compute, limit), order)?;
        }
        Ok(())
    }

    fn residual(
        &mut self,
        inputs: usize,
        outputs: usize,
        groups: [usize; 2],
        (compute, limit): (DType, f64),
        order: Order,
    ) -> Result<()> {
        let x = [2, inputs, 10, 12];
        let (conv1, conv2) = ([outputs, inputs, 3, 3], [outputs, outputs, 3, 3]);
        let (from, to, short) = ([inputs], [outputs], [outputs, inputs, 1, 1]);
        let mut shapes: Vec<&[usize]> = vec![&x, &from, &from, &conv1, &to, &to, &to, &conv2, &to];
        if inputs != outputs {
            shapes.extend([&short[..], &to]);
        }
        let block = |x: &Tensor, t: &[Tensor], compute| {
            let pair = |at: usize| [&t[at], &t[at + 1]];
            let block = Residual {
                norm1: pair(1),
                conv1: pair(3),
                norm2: pair(5),
                conv2: pair(7),
                shortcut: (t.len() > 9).then(|| pair(9)),
                groups,
                eps: 1e-6,
                maps: Maps { compute, order },
            };
            around(order, x, |x| tensor::residual(x, &block))
        };
        let name = format!("residual {x:?} to {outputs}{}", said(order));
        // The rounding of one layer goes through the others.
        let limit = 3.0 * limit;
        self.check(&name, compute, limit, &shapes, |t, compute| {
            // Kernels of about the size that training makes them of, so that what comes out is not large.
            let t: Vec<Tensor> = (t.iter())
                .map(|t| {
                    if t.rank() == 4 {
                        t * 0.3
                    } else {
                        Ok(t.clone())
                    }
                })
                .collect::<Result<_>>()?;
            block(&t[0].to_dtype(compute)?, &t, compute)
        })?;
        self.check(
            &format!("{name}, inference"),
            compute,
            limit,
            &shapes,
            |t, compute| {
                let held: Vec<Tensor> = (t.iter())
                    .map(|t| {
                        let held = t.detach();
                        if t.rank() == 4 { held * 0.3 } else { Ok(held) }
                    })
                    .collect::<Result<_>>()?;
                beside(&block(&held[0].to_dtype(compute)?, &held, compute)?, t)
            },
        )
    }

    fn depthwise(&mut self, compute: DType, limit: f64) -> Result<()> {
        let wider = Window {
            stride: 2,
            padding: (1, 2),
        };
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
        Ok(())
    }

    fn normalisations(&mut self, compute: DType, limit: f64, order: Order) -> Result<()> {
        for (x, groups, swish) in [
            ([2, 64, 16, 16], 32, true),
            ([2, 64, 16, 16], 32, false),
            ([3, 32, 5, 7], 32, true),
            ([1, 96, 4, 2], 8, false),
            ([2, 6, 9, 9], 3, true),
        ] {
            let with = if swish { "and swish" } else { "alone" };
            let name = format!("group_norm {with} {x:?} in {groups}{}", said(order));
            let inputs: [&[usize]; 3] = [&x, &x[1..2], &x[1..2]];
            self.check(&name, compute, limit, &inputs, |t, compute| {
                around(order, &t[0].to_dtype(compute)?, |x| {
                    tensor::group_norm(x, &t[1], &t[2], groups, 1e-6, swish, order)
                })
            })?;
        }
        for x in [[3, 8, 20, 20], [2, 5, 3, 4]] {
            let inputs: [&[usize]; 3] = [&x, &x[1..2], &x[1..2]];
            for (which, part) in ["result", "mean", "variance"].into_iter().enumerate() {
                let name = format!("batch_norm {x:?}, {part}{}", said(order));
                self.check(&name, compute, limit, &inputs, |t, compute| {
                    let x = order.of_channels_first(&t[0].to_dtype(compute)?)?;
                    let x = x.contiguous()?;
                    let (y, mean, variance) =
                        tensor::batch_norm_train(&x, &t[1], &t[2], 1e-5, order)?;
                    match which {
                        0 => order.to_channels_first(&y),
                        1 => beside(&mean, &[y]),
                        _ => beside(&variance, &[y]),
                    }
                })?;
            }
        }
        Ok(())
    }

    fn attention(&mut self, compute: DType, limit: f64) -> Result<()> {
        // Heads as the networks have them, and some that fill no kernel; as many keys as queries, and more.
        for (batch, heads, queries, keys, side) in [
            (2, 3, 70, 70, 64),
            (1, 2, 3, 133, 24),
            (1, 1, 40, 40, 96),
            (2, 2, 65, 65, 120),
            (1, 2, 9, 12, 20),
        ] {
            for causal in [false, true] {
                let which = if causal { "causal " } else { "" };
                let name =
                    format!("{which}attention of {queries} to {keys}, {heads} heads of {side}");
                let (q, k) = ([batch, queries, heads, side], [batch, keys, heads, side]);
                self.check(&name, compute, limit, &[&q, &k, &k], |t, compute| {
                    let by_head = |x: &Tensor| x.to_dtype(compute)?.transpose(1, 2);
                    tensor::attention(&by_head(&t[0])?, &by_head(&t[1])?, &by_head(&t[2])?, causal)
                })?;
            }
        }
        // Query, key and value side by side as one layer gives them, and where no pack of numbers begins.
        for (from, side) in [(0, 32), (4, 36)] {
            let name = format!("attention in rows of {side}, from {from}");
            let all: [&[usize]; 1] = [&[2, 40, 9, side]];
            self.check(&name, compute, limit, &all, |t, compute| {
                let heads = t[0]
                    .to_dtype(compute)?
                    .narrow(3, from, 32)?
                    .transpose(1, 2)?;
                let part = |i: usize| heads.narrow(1, 3 * i, 3);
                tensor::attention(&part(0)?, &part(1)?, &part(2)?, true)
            })?;
        }
        Ok(())
    }

    /// What changes the size of maps.
    fn sizes(&mut self, compute: DType, limit: f64, order: Order) -> Result<()> {
        for x in [[2, 5, 9, 8], [2, 16, 6, 7]] {
            let shapes: [&[usize]; 1] = [&x];
            let name = format!("upsample2 {x:?}{}", said(order));
            self.check(&name, compute, limit, &shapes, |t, compute| {
                around(order, &t[0].to_dtype(compute)?, |x| {
                    tensor::upsample2(x, order)
                })
            })?;
            let name = format!("max_pool2 {x:?}{}", said(order));
            self.check(&name, compute, limit, &shapes, |t, compute| {
                around(order, &t[0].to_dtype(compute)?, |x| {
                    tensor::max_pool2(x, order)
                })
            })?;
        }
        Ok(())
    }

    /// LPIPS's, of numbers as rectifiers leave them.
    fn distances(&mut self, compute: DType, limit: f64, order: Order) -> Result<()> {
        for x in [[2, 64, 20, 20], [3, 20, 5, 9], [1, 512, 4, 4]] {
            let shapes: [&[usize]; 3] = [&x, &x, &x[1..2]];
            let name = format!("unit_distances {x:?}{}", said(order));
            self.check(&name, compute, limit, &shapes, |t, compute| {
                let maps = |t: &Tensor| {
                    let maps = tensor::relu(&t.to_dtype(compute)?)?;
                    order.of_channels_first(&maps)?.contiguous()
                };
                let y = tensor::unit_distances(&maps(&t[0])?, &maps(&t[1])?, &t[2], order)?;
                // It has one gradient only.
                beside(&y, &t[1..])
            })?;
        }
        Ok(())
    }

    /// What bends numbers without weights.
    fn activations(&mut self, compute: DType, limit: f64) -> Result<()> {
        // Whole packs, and not.
        for shape in [[2, 5, 9, 8], [1, 5, 9, 7]] {
            let x: [&[usize]; 1] = [&shape];
            let two: [&[usize]; 2] = [x[0], x[0]];
            let named = |name: &str| format!("{name} {shape:?}");
            self.check(&named("relu"), compute, limit, &x, |t, compute| {
                tensor::relu(&t[0].to_dtype(compute)?)
            })?;
            self.check(&named("relu6"), compute, limit, &x, |t, compute| {
                tensor::relu6(&(t[0].to_dtype(compute)? * 4.0)?)
            })?;
            self.check(&named("leaky_relu"), compute, limit, &x, |t, compute| {
                tensor::leaky_relu(&t[0].to_dtype(compute)?, 0.2)
            })?;
            self.check(&named("add"), compute, limit, &two, |t, compute| {
                tensor::add(&t[0].to_dtype(compute)?, &t[1].to_dtype(compute)?)
            })?;
        }
        Ok(())
    }

    /// A part that compares by itself.
    fn attempt(&mut self, name: &str, part: fn(&mut Self) -> Result<()>) {
        if let Err(error) = part(self) {
            self.failed(name, &error);
        }
    }

    fn failed(&mut self, name: &str, error: &candle_core::Error) {
        self.made.push(Comparison {
            key: format!("{name}: {error}"),
            error: f64::INFINITY,
            limit: 0.0,
        });
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
        let theirs = on(&Device::Cpu, DType::F32)?;
        // One that fails does not hide the others.
        let ours = match on(self.device, compute) {
            Ok(ours) => ours,
            Err(error) => {
                self.failed(&format!("{name}, {}", compute.as_str()), &error);
                return Ok(());
            }
        };
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

/// An operation on maps that lie in `order`, of maps `[b, c, h, w]` and to such.
fn around(
    order: Order,
    x: &Tensor,
    operation: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let y = operation(&order.of_channels_first(x)?.contiguous()?)?;
    order.to_channels_first(&y)
}

/// `y` (f32), to which `inputs` that it does not depend on have gradients of zeros.
fn beside(y: &Tensor, inputs: &[Tensor]) -> Result<Tensor> {
    inputs.iter().try_fold(y.to_dtype(DType::F32)?, |y, input| {
        let nothing = (input.to_dtype(DType::F32)?.sum_all()? * 0.0)?;
        &y + nothing.broadcast_as(y.shape())?
    })
}

fn said(order: Order) -> &'static str {
    match order {
        Order::ChannelsFirst => "",
        Order::ChannelsLast => ", channels last",
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
        // By part: where one is no longer called, this is seen.
        for (part, least) in [
            ("conv2d", 120),
            ("residual", 128),
            ("depthwise", 8),
            ("group_norm", 40),
            ("batch_norm", 48),
            ("attention", 44),
            ("upsample2", 8),
            ("max_pool2", 8),
            ("unit_distances", 24),
            (", channels last", 188),
            ("relu", 12),
            ("upload", 6),
            ("download", 6),
        ] {
            let found = made.iter().filter(|c| c.key.contains(part)).count();
            assert!(found >= least, "{part}: {found}");
        }
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
