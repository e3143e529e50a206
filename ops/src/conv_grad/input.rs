//! The gradient of a convolution's input.

use rayon::prelude::*;

use super::{Batch, Phase, Phases};
use crate::conv::{BLOCK, BlockJob, Planes, length};
use crate::lanes::Proven;
use crate::{ConvShape, Error};

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
    let (rows, columns) = batch.output(shape)?;
    let (height, width) = (batch.height, batch.width);
    let picture = shape.outputs * rows * columns;
    length("gradient", batch.pictures * picture, grad.len())?;
    let Phases {
        view,
        columns: most,
        phases,
    } = Phases::new(shape, batch, rows);
    let weights: Vec<_> = phases
        .iter()
        .map(|phase| pack(shape, weight, phase))
        .collect();
    let mut result = vec![0.0; batch.pictures * shape.inputs * height * width];
    result
        .par_chunks_mut(shape.inputs * height * width)
        .zip(grad.par_chunks(picture))
        .for_each(|(result, grad)| {
            let planes = Planes::new(&view, grad, rows, columns, most);
            result
                .par_chunks_mut(BLOCK * height * width)
                .enumerate()
                .for_each(|(block, result)| {
                    for (phase, weights) in phases.iter().zip(&weights) {
                        let taps = places(phase, &planes);
                        let count = shape.outputs * taps.len();
                        let weights = &weights[block * count..][..count];
                        one(
                            kernel,
                            shape,
                            &planes,
                            phase,
                            &taps,
                            weights,
                            result,
                            (height, width),
                        );
                    }
                });
        });
    Ok(result)
}

fn places(phase: &Phase, planes: &Planes<'_>) -> Vec<usize> {
    let places = phase.places.iter();
    places.map(|&(_, (y, x))| planes.tap(y, x)).collect()
}

/// One phase of one block of inputs.
#[expect(clippy::too_many_arguments, reason = "a convolution's")]
fn one(
    kernel: Proven,
    shape: &ConvShape,
    planes: &Planes<'_>,
    phase: &Phase,
    taps: &[usize],
    weights: &[[f32; BLOCK]],
    result: &mut [f32],
    size: (usize, usize),
) {
    let run = |output: &mut [f32]| {
        kernel.run(BlockJob {
            planes,
            taps,
            inputs: shape.outputs,
            step: planes.row,
            weights,
            bias: &[0.0; BLOCK],
            output,
            rows: phase.rows,
            columns: phase.columns,
        });
    };
    if shape.stride == 1 {
        return run(result);
    }
    let channels = result.len() / (size.0 * size.1);
    let mut output = vec![0.0; channels * phase.rows * phase.columns];
    run(&mut output);
    phase.scatter(shape.stride, &output, result, size);
}

/// For each block of inputs: for each output, for each place of the phase, the block's weights.
fn pack(shape: &ConvShape, weight: &[f32], phase: &Phase) -> Vec<[f32; BLOCK]> {
    let (square, places) = (shape.side * shape.side, &phase.places);
    let mut packed =
        vec![[0.0; BLOCK]; shape.inputs.div_ceil(BLOCK) * shape.outputs * places.len()];
    for input in 0..shape.inputs {
        let block = input / BLOCK * shape.outputs * places.len();
        for output in 0..shape.outputs {
            let kernel = &weight[(output * shape.inputs + input) * square..][..square];
            let to = &mut packed[block + output * places.len()..];
            for (to, &(place, _)) in to.iter_mut().zip(places) {
                to[input % BLOCK] = kernel[place];
            }
        }
    }
    packed
}
