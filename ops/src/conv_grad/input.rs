//! The gradient of a convolution's input.
//!
//! With stride `s` and `p` zeros before, input `i = s a + r` meets kernel place `k` in output `a + (r + p - k) / s` where that is whole:
//! for each remainder `r` of the rows and of the columns, the gradient is a stride-1 convolution of the output's gradient with those
//! kernel places that fit. No multiplication by a zero that striding put in between.

use rayon::prelude::*;

use super::Batch;
use crate::conv::{BLOCK, BlockJob, Planes, length};
use crate::lanes::Proven;
use crate::{ConvShape, Error};

/// Kernel places of one axis that meet the inputs of remainder `r`, each with where its output lies from `a`.
fn places(shape: &ConvShape, r: usize) -> Vec<(usize, isize)> {
    let from = r + shape.padding.0;
    (0..shape.side)
        .filter(|k| (from % shape.stride) == k % shape.stride)
        .map(|k| {
            let difference = from.cast_signed() - k.cast_signed();
            (k, difference / shape.stride.cast_signed())
        })
        .collect()
}

/// The inputs of one remainder of the rows and one of the columns.
struct Phase {
    /// Remainders of rows and columns.
    at: (usize, usize),
    rows: usize,
    columns: usize,
    taps: Vec<usize>,
    /// For each block of inputs: for each output, for each tap, the block's weights.
    weights: Vec<[f32; BLOCK]>,
}

/// The gradient of the input `[pictures, inputs, height, width]`, from `weight` `[outputs, inputs, side, side]` and `grad`, the
/// gradient of the output.
///
/// # Errors
/// [`Error::Length`]; [`Error::Empty`] where the kernel does not fit into the picture.
pub(crate) fn input(
    kernel: Proven,
    shape: &ConvShape,
    weight: &[f32],
    grad: &[f32],
    batch: Batch,
) -> Result<Vec<f32>, Error> {
    let batch = batch.seen_by(shape);
    let Some((rows, columns)) = batch.output(shape) else {
        return Err(Error::Empty { what: "output" });
    };
    let Batch {
        pictures,
        height,
        width,
    } = batch;
    length(
        "gradient",
        pictures * shape.outputs * rows * columns,
        grad.len(),
    )?;
    let mut result = vec![0.0; pictures * shape.inputs * height * width];

    let stride = shape.stride;
    let axis: Vec<_> = (0..stride).map(|r| places(shape, r)).collect();
    let offsets = || axis.iter().flatten().map(|&(_, offset)| offset);
    let before = offsets().min().unwrap_or(0).min(0).unsigned_abs();
    let reach = offsets().max().unwrap_or(0).max(0).unsigned_abs();
    // How the phases look at the output's gradient: a window from `before` to `reach`, of which each uses some places.
    let largest = (height.div_ceil(stride), width.div_ceil(stride));
    let view = ConvShape {
        inputs: shape.outputs,
        outputs: shape.inputs,
        side: before + reach + 1,
        stride: 1,
        padding: (before, (largest.0 + reach).saturating_sub(rows)),
    };
    let planes: Vec<Planes<'_>> = grad
        .par_chunks(shape.outputs * rows * columns)
        .map(|grad| Planes::new(&view, grad, rows, columns, largest.1))
        .collect();
    let Some(first) = planes.first() else {
        return Ok(result);
    };
    let tap = |offset: isize| (offset + before.cast_signed()).unsigned_abs();
    let mut phases = Vec::new();
    for ry in 0..stride.min(height) {
        for rx in 0..stride.min(width) {
            let places: Vec<_> = axis[ry]
                .iter()
                .flat_map(|y| axis[rx].iter().map(move |x| (y, x)))
                .collect();
            if places.is_empty() {
                continue;
            }
            let taps = places
                .iter()
                .map(|(y, x)| first.tap(tap(y.1), tap(x.1)))
                .collect();
            let kernel_places: Vec<_> =
                places.iter().map(|(y, x)| y.0 * shape.side + x.0).collect();
            phases.push(Phase {
                at: (ry, rx),
                rows: (height - ry).div_ceil(stride),
                columns: (width - rx).div_ceil(stride),
                taps,
                weights: pack(shape, weight, &kernel_places),
            });
        }
    }

    result
        .par_chunks_mut(shape.inputs * height * width)
        .zip(&planes)
        .for_each(|(result, planes)| {
            result
                .par_chunks_mut(BLOCK * height * width)
                .enumerate()
                .for_each(|(block, result)| {
                    for phase in &phases {
                        one(kernel, shape, planes, phase, block, result, (height, width));
                    }
                });
        });
    Ok(result)
}

/// One phase of one block of inputs.
fn one(
    kernel: Proven,
    shape: &ConvShape,
    planes: &Planes<'_>,
    phase: &Phase,
    block: usize,
    result: &mut [f32],
    (height, width): (usize, usize),
) {
    let weights = shape.outputs * phase.taps.len();
    let run = |output: &mut [f32]| {
        kernel.run(BlockJob {
            planes,
            taps: &phase.taps,
            inputs: shape.outputs,
            step: planes.row,
            weights: &phase.weights[block * weights..][..weights],
            bias: &[0.0; BLOCK],
            output,
            rows: phase.rows,
            columns: phase.columns,
        });
    };
    if shape.stride == 1 {
        return run(result);
    }
    let channels = result.len() / (height * width);
    let mut output = vec![0.0; channels * phase.rows * phase.columns];
    run(&mut output);
    let lines = output.chunks_exact(phase.columns);
    for (line, values) in lines.enumerate() {
        let (channel, a) = (line / phase.rows, line % phase.rows);
        let y = a * shape.stride + phase.at.0;
        let to = &mut result[(channel * height + y) * width..][..width];
        let to = to[phase.at.1..].iter_mut().step_by(shape.stride);
        for (to, &value) in to.zip(values) {
            *to = value;
        }
    }
}

fn pack(shape: &ConvShape, weight: &[f32], places: &[usize]) -> Vec<[f32; BLOCK]> {
    let square = shape.side * shape.side;
    let mut packed =
        vec![[0.0; BLOCK]; shape.inputs.div_ceil(BLOCK) * shape.outputs * places.len()];
    for input in 0..shape.inputs {
        let block = input / BLOCK * shape.outputs * places.len();
        for output in 0..shape.outputs {
            let kernel = &weight[(output * shape.inputs + input) * square..][..square];
            let to = &mut packed[block + output * places.len()..];
            for (to, &place) in to.iter_mut().zip(places) {
                to[input % BLOCK] = kernel[place];
            }
        }
    }
    packed
}
