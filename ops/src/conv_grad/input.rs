//! The gradient of a convolution's input.

use rayon::prelude::*;

use super::{Batch, Phase, Phases};
use crate::conv::{BLOCK, Planes, Sums, length};
use crate::lanes::Proven;
use crate::{ConvShape, Error, Input, Store};

/// The gradient of the input of a convolution of pictures of one size.
pub(crate) struct InputGradient {
    kernel: Proven,
    shape: ConvShape,
    size: (usize, usize),
    /// Rows and columns of the output.
    output: (usize, usize),
    plan: Phases,
    /// Of each phase.
    weights: Vec<Vec<[f32; BLOCK]>>,
}

impl InputGradient {
    /// Of `weight` `[outputs, inputs, side, side]`, for pictures as in `batch`.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Empty`] where the kernel does not fit into the picture.
    pub(crate) fn new(
        kernel: Proven,
        shape: &ConvShape,
        weight: &[f32],
        batch: Batch,
    ) -> Result<Self, Error> {
        length("weight", shape.weights(), weight.len())?;
        let batch = batch.seen_by(shape);
        let output = batch.output(shape)?;
        let plan = Phases::new(shape, batch, output.0);
        let phases = plan.phases.iter();
        Ok(Self {
            kernel,
            shape: *shape,
            size: (batch.height, batch.width),
            output,
            weights: phases.map(|phase| pack(shape, weight, phase)).collect(),
            plan,
        })
    }

    /// From the gradient of the output of one picture, `[outputs, height', width']`, into `result` `[inputs, height, width]`.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub(crate) fn run(&self, grad: &[f32], result: &mut [f32]) -> Result<(), Error> {
        let (shape, (rows, columns)) = (&self.shape, self.output);
        let area = self.size.0 * self.size.1;
        length("gradient", shape.outputs * rows * columns, grad.len())?;
        length("result", shape.inputs * area, result.len())?;
        let grad = Input::new(grad, rows, columns);
        let planes = Planes::new(self.kernel, &self.plan.view, grad, self.plan.columns);
        for (phase, weights) in self.plan.phases.iter().zip(&self.weights) {
            let taps = places(phase, &planes);
            let sums = Sums {
                kernel: self.kernel,
                planes: &planes,
                taps: &taps,
                inputs: shape.outputs,
                step: planes.row,
                weights,
                bias: &[],
                store: Store::Over,
            };
            let size = (phase.rows, phase.columns);
            if shape.stride == 1 {
                sums.run(result, size);
                continue;
            }
            let mut values = vec![0.0; shape.inputs * size.0 * size.1];
            sums.run(&mut values, size);
            result
                .par_chunks_mut(area)
                .zip(values.par_chunks(size.0 * size.1))
                .for_each(|(result, values)| {
                    phase.scatter(shape.stride, values, result, self.size);
                });
        }
        Ok(())
    }
}

fn places(phase: &Phase, planes: &Planes<'_>) -> Vec<usize> {
    let places = phase.places.iter();
    places.map(|&(_, (y, x))| planes.tap(y, x)).collect()
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
