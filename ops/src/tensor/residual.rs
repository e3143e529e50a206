//! A residual block as one operation: `shortcut(x) + conv2(swish(norm2(conv1(swish(norm1(x))))))`.
//!
//! On the CPU a block of one picture is worked through from end to end by one thread, so that what lies between its layers stays in
//! that thread's cache. On CUDA the biases of the convolutions are added on the way of other passes. On both candle keeps one gradient for
//! the block instead of five. Kept for the backward pass is what `conv1` made; the normalised maps are computed again.

use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::products::Products;
use super::values::{Values, on_cpu, slice};
use super::{Maps, Window, add, conv2d, group_norm};
use crate::conv_grad::{self, Batch};
use crate::norm::Moments;
use crate::{ConvShape, GroupNorm};

/// The parameters of a block, f32, and its settings. Both convolutions are 3x3 and keep the size.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// Weight and bias of the first normalisation, `[inputs]`.
    pub norm1: [&'a Tensor; 2],
    /// Weight `[outputs, inputs, 3, 3]` and bias `[outputs]` of the first convolution.
    pub conv1: [&'a Tensor; 2],
    /// Weight and bias of the second normalisation, `[outputs]`.
    pub norm2: [&'a Tensor; 2],
    /// Weight `[outputs, outputs, 3, 3]` and bias `[outputs]` of the second convolution.
    pub conv2: [&'a Tensor; 2],
    /// Weight `[outputs, inputs, 1, 1]` and bias `[outputs]` of the convolution beside them; none where the number of channels stays.
    pub shortcut: Option<[&'a Tensor; 2]>,
    /// Groups of both normalisations.
    pub groups: [usize; 2],
    /// Added to their variances.
    pub eps: f64,
    /// What its maps are made of.
    pub maps: Maps,
}

impl<'a> Residual<'a> {
    /// In the order of the fields.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &'a Tensor> {
        let pairs = [self.norm1, self.conv1, self.norm2, self.conv2];
        pairs.into_iter().chain(self.shortcut).flatten()
    }
}

/// Applies a residual block to maps `x` of `inputs` channels; gives maps of `outputs` channels. Differentiable in `x` and all parameters.
///
/// # Errors
/// Shapes that do not fit; a tensor operation's.
pub fn residual(x: &Tensor, block: &Residual<'_>) -> Result<Tensor> {
    if on_cpu(x) {
        return block.maps.order.around(x, |x| fused(x, block));
    }
    #[cfg(feature = "cuda")]
    if let Some(y) = crate::cuda::residual(x, block)? {
        return Ok(y);
    }
    let Residual { eps, maps, .. } = *block;
    let layer = |x: &Tensor, norm: [&Tensor; 2], groups, conv: [&Tensor; 2]| {
        let x = group_norm(x, norm[0], norm[1], groups, eps, true, maps.order)?;
        conv2d(&x, conv[0], Some(conv[1]), Window::same(1), maps)
    };
    let h = layer(x, block.norm1, block.groups[0], block.conv1)?;
    let h = layer(&h, block.norm2, block.groups[1], block.conv2)?;
    match block.shortcut {
        Some([weight, bias]) => {
            let beside = conv2d(x, weight, Some(bias), Window::same(0), maps)?;
            add(&beside, &h)
        }
        None => add(x, &h),
    }
}

fn fused(x: &Tensor, block: &Residual<'_>) -> Result<Tensor> {
    let (_, inputs, _, _) = x.dims4()?;
    let outputs = block.conv1[0].dim(0)?;
    let op = Op {
        inputs,
        outputs,
        groups: block.groups,
        eps: block.eps,
        shortcut: block.shortcut.is_some(),
        products: Products::of(block.maps.compute)?,
        kept: Arc::default(),
    };
    if inputs != outputs && block.shortcut.is_none() {
        bail!("residual: {inputs} channels to {outputs} need a shortcut");
    }
    for (parameter, expected) in block.parameters().zip(op.sizes()) {
        if parameter.elem_count() != expected {
            bail!(
                "residual: expected a parameter of {expected} numbers, got {:?}",
                parameter.dims()
            );
        }
    }
    let flat: Vec<Tensor> = block
        .parameters()
        .map(Tensor::flatten_all)
        .collect::<Result<_>>()?;
    x.contiguous()?.apply_op2(&Tensor::cat(&flat, 0)?, op)
}

/// A block of known sizes. Its second argument is all parameters, one behind the other.
struct Op {
    inputs: usize,
    outputs: usize,
    groups: [usize; 2],
    eps: f64,
    shortcut: bool,
    products: Products,
    kept: Arc<OnceLock<Kept>>,
}

/// What the forward pass leaves for the backward pass.
struct Kept {
    /// What the first convolution made, `[b, outputs, h, w]`.
    middle: Vec<f32>,
    /// Of both normalisations, by picture and group.
    moments: [Vec<Moments>; 2],
}

/// The numbers of each parameter.
struct Parameters<'a> {
    norms: [[&'a [f32]; 2]; 2],
    convs: [[&'a [f32]; 2]; 2],
    shortcut: Option<[&'a [f32]; 2]>,
}

impl Op {
    /// How many numbers each parameter has, in their order.
    fn sizes(&self) -> Vec<usize> {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let mut sizes = vec![inputs; 2];
        sizes.extend([9 * inputs * outputs, outputs]);
        sizes.extend([outputs; 2]);
        sizes.extend([9 * outputs * outputs, outputs]);
        if self.shortcut {
            sizes.extend([inputs * outputs, outputs]);
        }
        sizes
    }

    fn parameters<'a>(&self, mut flat: &'a [f32]) -> Result<Parameters<'a>> {
        let mut next = |count: usize| match flat.split_at_checked(count) {
            Some((first, rest)) => {
                flat = rest;
                Ok(first)
            }
            None => bail!("residual: too few parameters"),
        };
        let sizes = self.sizes();
        let mut pair =
            |at: usize| -> Result<[&'a [f32]; 2]> { Ok([next(sizes[at])?, next(sizes[at + 1])?]) };
        let (norm1, conv1, norm2, conv2) = (pair(0)?, pair(2)?, pair(4)?, pair(6)?);
        Ok(Parameters {
            norms: [norm1, norm2],
            convs: [conv1, conv2],
            shortcut: self.shortcut.then(|| pair(8)).transpose()?,
        })
    }

    fn norms(&self, parameters: &Parameters<'_>) -> Result<[GroupNorm; 2]> {
        let norm = |at: usize| {
            let [weight, bias] = parameters.norms[at];
            GroupNorm::new(self.groups[at], self.eps, weight, bias, true).map_err(Error::wrap)
        };
        Ok([norm(0)?, norm(1)?])
    }

    /// The convolutions in the order of their parameters.
    fn shapes(&self) -> [ConvShape; 3] {
        let shape = |inputs, side, padding| ConvShape {
            inputs,
            outputs: self.outputs,
            side,
            stride: 1,
            padding: (padding, padding),
        };
        [
            shape(self.inputs, 3, 1),
            shape(self.outputs, 3, 1),
            shape(self.inputs, 1, 0),
        ]
    }

    fn forward(&self, x: &[f32], flat: &[f32], batch: Batch) -> Result<Vec<f32>> {
        let parameters = self.parameters(flat)?;
        let [norm1, norm2] = self.norms(&parameters)?;
        let shapes = self.shapes();
        let conv = |at: usize, [weight, bias]: [&[f32]; 2]| {
            let conv = self.products.convolution(&shapes[at], weight, bias);
            conv.map_err(Error::wrap)
        };
        let [conv1, conv2] = [conv(0, parameters.convs[0])?, conv(1, parameters.convs[1])?];
        let shortcut = parameters.shortcut.map(|p| conv(2, p)).transpose()?;
        let size = (batch.height, batch.width);
        let area = size.0 * size.1;
        let (from, to) = (self.inputs * area, self.outputs * area);
        let mut middle = vec![0.0; batch.pictures * to];
        let mut result = vec![0.0; batch.pictures * to];
        let moments = middle
            .par_chunks_mut(to)
            .zip(result.par_chunks_mut(to))
            .zip(x.par_chunks(from))
            .map(|((middle, result), x)| {
                let mut normal = vec![0.0; from.max(to)];
                let first = norm1.run_batch(1, x, &mut normal[..from])?;
                conv1.run(&normal[..from], size, middle)?;
                let second = norm2.run_batch(1, middle, &mut normal[..to])?;
                conv2.run(&normal[..to], size, result)?;
                match &shortcut {
                    Some(shortcut) => {
                        shortcut.run(x, size, &mut normal[..to])?;
                        add_to(result, &normal[..to]);
                    }
                    None => add_to(result, x),
                }
                Ok((first, second))
            })
            .collect::<std::result::Result<Vec<_>, crate::Error>>()
            .map_err(Error::wrap)?;
        let (first, second): (Vec<_>, Vec<_>) = moments.into_iter().unzip();
        let moments = [first.concat(), second.concat()];
        // An operation runs once.
        let _ = self.kept.set(Kept { middle, moments });
        Ok(result)
    }

    /// The gradients of x and of all parameters.
    fn backward(
        &self,
        x: &[f32],
        flat: &[f32],
        grad: &[f32],
        batch: Batch,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let Some(kept) = self.kept.get() else {
            bail!("residual: nothing was kept");
        };
        let parameters = self.parameters(flat)?;
        let norms = self.norms(&parameters)?;
        let shapes = self.shapes();
        let at_input = |at: usize, weight: &[f32]| {
            let gradient = self.products.at_input(&shapes[at], weight, batch);
            gradient.map_err(Error::wrap)
        };
        let convs = [
            at_input(0, parameters.convs[0][0])?,
            at_input(1, parameters.convs[1][0])?,
        ];
        let shortcut = parameters.shortcut.map(|[weight, _]| at_input(2, weight));
        let shortcut = shortcut.transpose()?;
        let area = batch.height * batch.width;
        let (from, to) = (self.inputs * area, self.outputs * area);
        // Of all pictures, for the gradients of the weights: what the convolutions were taken of, and the gradient between them.
        let mut normal1 = vec![0.0; batch.pictures * from];
        let mut normal2 = vec![0.0; batch.pictures * to];
        let mut between = vec![0.0; batch.pictures * to];
        let mut at_x = vec![0.0; batch.pictures * from];
        // Scratch that one picture at a time needs, handed on from picture to picture.
        let scratch: Mutex<Vec<Vec<f32>>> = Mutex::default();
        let per_picture = |at: usize, work: Work<'_>| {
            let Work {
                x,
                middle,
                grad,
                normal1,
                normal2,
                between,
                at_x,
            } = work;
            let taken = scratch.lock().ok().and_then(|mut all| all.pop());
            let mut normal = taken.unwrap_or_else(|| vec![0.0; from.max(to)]);
            let of_picture = |which: usize| {
                let groups = self.groups[which];
                &kept.moments[which][at * groups..(at + 1) * groups]
            };
            norms[1].run_batch(1, middle, normal2)?;
            convs[1].run(grad, &mut normal[..to])?;
            let second = norms[1].backward(1, of_picture(1), middle, &normal[..to], between)?;
            norms[0].run_batch(1, x, normal1)?;
            convs[0].run(between, &mut normal[..from])?;
            let first = norms[0].backward(1, of_picture(0), x, &normal[..from], at_x)?;
            match &shortcut {
                Some(shortcut) => {
                    shortcut.run(grad, &mut normal[..from])?;
                    add_to(at_x, &normal[..from]);
                }
                None => add_to(at_x, grad),
            }
            if let Ok(mut all) = scratch.lock() {
                all.push(normal);
            }
            Ok([first, second])
        };
        let pictures = normal1
            .par_chunks_mut(from)
            .zip(normal2.par_chunks_mut(to))
            .zip(between.par_chunks_mut(to))
            .zip(at_x.par_chunks_mut(from))
            .zip(x.par_chunks(from))
            .zip(kept.middle.par_chunks(to))
            .zip(grad.par_chunks(to))
            .enumerate();
        let at_norms = pictures
            .map(
                |(at, ((((((normal1, normal2), between), at_x), x), middle), grad))| {
                    per_picture(
                        at,
                        Work {
                            x,
                            middle,
                            grad,
                            normal1,
                            normal2,
                            between,
                            at_x,
                        },
                    )
                },
            )
            .collect::<std::result::Result<Vec<_>, crate::Error>>()
            .map_err(Error::wrap)?;
        let weight = |at: usize, input: &[f32], grad: &[f32]| {
            let gradient = self.products.at_weight(&shapes[at], input, grad, batch);
            gradient.map_err(Error::wrap)
        };
        let bias = |grad: &[f32]| conv_grad::bias(grad, self.outputs, area);
        let mut gradients = Vec::with_capacity(flat.len());
        let [first, second] = [0, 1].map(|which| sum_of_pairs(at_norms.iter().map(|n| &n[which])));
        gradients.extend(first);
        gradients.extend(weight(0, &normal1, &between)?);
        gradients.extend(bias(&between));
        gradients.extend(second);
        gradients.extend(weight(1, &normal2, grad)?);
        let at_bias = bias(grad);
        gradients.extend(&at_bias);
        if self.shortcut {
            gradients.extend(weight(2, x, grad)?);
            gradients.extend(at_bias);
        }
        Ok((at_x, gradients))
    }
}

/// One picture of the backward pass.
struct Work<'a> {
    x: &'a [f32],
    middle: &'a [f32],
    grad: &'a [f32],
    normal1: &'a mut [f32],
    normal2: &'a mut [f32],
    between: &'a mut [f32],
    at_x: &'a mut [f32],
}

/// Sums the gradients of weight and bias of a normalisation over pictures, in their order; weight, then bias.
fn sum_of_pairs<'a>(pairs: impl Iterator<Item = &'a (Vec<f32>, Vec<f32>)>) -> Vec<f32> {
    let mut sums: Vec<f64> = Vec::new();
    for (weight, bias) in pairs {
        sums.resize(weight.len() + bias.len(), 0.0);
        for (sum, &value) in sums.iter_mut().zip(weight.iter().chain(bias)) {
            *sum += f64::from(value);
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

fn add_to(to: &mut [f32], values: &[f32]) {
    for (to, &value) in to.iter_mut().zip(values) {
        *to += value;
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        "vqlc-residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let batch = batch(x_layout.shape())?;
        let flat = slice(parameters, parameters_layout)?;
        let result = self.forward(slice(x, x_layout)?, flat, batch)?;
        let shape = (batch.pictures, self.outputs, batch.height, batch.width);
        Ok((CpuStorage::F32(result), shape.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let [x_values, flat, grad] = [x, parameters, &gradient].map(Values::of);
        let batch = batch(x.shape())?;
        let (at_x, at_parameters) =
            self.backward(x_values.slice()?, flat.slice()?, grad.slice()?, batch)?;
        Ok((
            Some(Tensor::from_vec(at_x, x.shape(), x.device())?),
            Some(Tensor::from_vec(
                at_parameters,
                parameters.shape(),
                x.device(),
            )?),
        ))
    }
}

fn batch(shape: &Shape) -> Result<Batch> {
    let (pictures, _, height, width) = shape.dims4()?;
    if shape.elem_count() == 0 {
        bail!("residual: expected pictures, got {shape:?}");
    }
    Ok(Batch {
        pictures,
        height,
        width,
    })
}
