//! Gradients of a convolution on the CPU, in f32. Sums are taken in an order that depends on shapes only, never on threads or kernels.

mod input;
mod phases;
mod weight;

pub(crate) use input::InputGradient;
pub(crate) use phases::{Phase, Phases};
pub(crate) use weight::weight;

use crate::{ConvShape, Error};

/// A batch of pictures that a convolution is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) pictures: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Batch {
    /// This batch as `shape` may see it: of one long row where rows do not matter.
    pub(crate) fn seen_by(self, shape: &ConvShape) -> Self {
        if !shape.is_flat() {
            return self;
        }
        Self {
            height: 1,
            width: self.height * self.width,
            ..self
        }
    }

    /// Rows and columns of the output.
    pub(crate) fn output(self, shape: &ConvShape) -> Result<(usize, usize), Error> {
        match (shape.output(self.height), shape.output(self.width)) {
            (Some(rows), Some(columns)) => Ok((rows, columns)),
            _ => Err(Error::Empty { what: "output" }),
        }
    }
}

/// The gradient of the bias `[outputs]`: `grad` `[pictures, outputs, positions]` summed in f64.
pub(crate) fn bias(grad: &[f32], outputs: usize, positions: usize) -> Vec<f32> {
    use rayon::prelude::*;
    let sum = |plane: &[f32]| {
        let (rows, rest) = plane.as_chunks::<16>();
        let mut sums = [0f64; 16];
        for row in rows {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += f64::from(x);
            }
        }
        let rest: f64 = rest.iter().map(|&x| f64::from(x)).sum();
        sums.iter().sum::<f64>() + rest
    };
    (0..outputs)
        .into_par_iter()
        .map(|output| {
            let planes = grad.chunks_exact(positions).skip(output).step_by(outputs);
            planes.map(sum).sum::<f64>() as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kernel;
    use crate::lanes::Proven;

    #[test]
    fn every_kernel_gives_the_same_bits() {
        for (side, stride, padding) in [(3, 1, (1, 1)), (3, 2, (0, 1)), (1, 1, (0, 0))] {
            let shape = ConvShape {
                inputs: 5,
                outputs: 11,
                side,
                stride,
                padding,
            };
            let batch = Batch {
                pictures: 3,
                height: 9,
                width: 37,
            };
            let (rows, columns) = batch.output(&shape).unwrap();
            let numbers = |count: usize, scale: f32| -> Vec<f32> {
                (0..count).map(|i| (i as f32 * scale).sin()).collect()
            };
            let x = numbers(3 * 5 * 9 * 37, 0.7);
            let weights = numbers(shape.weights(), 1.3);
            let grad = numbers(3 * 11 * rows * columns, 0.9);
            let mut first = None;
            for kernel in Kernel::available() {
                let kernel = Proven::new(kernel).unwrap();
                let at_input = InputGradient::new(kernel, &shape, &weights, batch).unwrap();
                let mut result = vec![0.0; x.len()];
                let (grads, results) = (grad.chunks(11 * rows * columns), 5 * 9 * 37);
                for (grad, result) in grads.zip(result.chunks_mut(results)) {
                    at_input.run(grad, result).unwrap();
                }
                let found = (result, weight(kernel, &shape, &x, &grad, batch).unwrap());
                assert!(found.0.iter().chain(&found.1).all(|x| x.is_finite()));
                assert_eq!(*first.get_or_insert_with(|| found.clone()), found);
            }
        }
    }
}
