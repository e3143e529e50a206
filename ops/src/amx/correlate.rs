//! The gradient of a convolution's weight.
//!
//! Pictures lie behind one another with zeros between their rows, the input and the gradient of the output alike, so that a kernel
//! place is only another start: the sum over pixels is one product of two long matrices for each kernel place.

use rayon::prelude::*;

use super::rounded;
use super::tiles::{Amx, SIDE, Tile};
use crate::conv::length;
use crate::conv_grad::Batch;
use crate::{ConvShape, Error};

/// Pixels of a step.
const STEP: usize = 2 * SIDE;
/// Steps before the next kernel places are turned to, so that what is read again is near.
const NEAR: usize = 32;
/// Numbers that are laid out at a time, about 16 MB.
const GROUP: usize = 1 << 23;

/// The gradient of the weight `[outputs, inputs, side, side]`, from `x` `[pictures, inputs, height, width]` and `grad`, the gradient
/// of the output, both rounded.
///
/// # Errors
/// [`Error::Length`]; [`Error::Empty`] where the kernel does not fit into the picture.
pub(crate) fn weight(
    amx: Amx,
    shape: &ConvShape,
    x: &[f32],
    grad: &[f32],
    batch: Batch,
) -> Result<Vec<f32>, Error> {
    let (rows, columns) = batch.output(shape)?;
    let (picture, positions) = (shape.inputs * batch.height * batch.width, rows * columns);
    length("input", batch.pictures * picture, x.len())?;
    let expected = batch.pictures * shape.outputs * positions;
    length("gradient", expected, grad.len())?;

    let taps = shape.side * shape.side;
    let (inputs, outputs) = (
        shape.inputs.div_ceil(SIDE),
        shape.outputs.div_ceil(2 * SIDE),
    );
    // One for each 16 inputs and 32 outputs: for each two taps, two tiles of outputs.
    let zero = [[Tile([[0.0; SIDE]; SIDE]); 2]; 2];
    let mut sums = vec![vec![zero; taps.div_ceil(2)]; inputs * outputs];
    let group = (GROUP / (picture + shape.outputs * positions)).max(1);
    let grads = grad.chunks(group * shape.outputs * positions);
    for (x, grad) in x.chunks(group * picture).zip(grads) {
        let flat = Flat::new(shape, x.len() / picture, rows, columns);
        let x = flat.inputs(amx, shape, x, (batch.height, batch.width));
        let grad = flat.gradients(amx, shape, grad, (rows, columns));
        let steps = flat.length.div_ceil(STEP);
        sums.par_iter_mut().enumerate().for_each(|(task, sums)| {
            let (input, output) = (task / outputs, 2 * (task % outputs));
            // A block of outputs that is not there repeats the last; its sums go nowhere.
            let last = shape.outputs.div_ceil(SIDE) - 1;
            let blocks = [output, (output + 1).min(last)];
            for first in (0..steps).step_by(NEAR) {
                let count = NEAR.min(steps - first);
                let columns = blocks.map(|block| &grad[block * steps + first..][..count]);
                for (tap, sums) in (0..taps).step_by(2).zip(sums.iter_mut()) {
                    let at = [tap, (tap + 1).min(taps - 1)].map(|tap| {
                        input * SIDE * flat.channel + flat.tap(tap, shape.side) + first * STEP
                    });
                    amx.correlate(&x, at, flat.channel, columns, sums);
                }
            }
        });
    }

    let mut result = vec![0.0; shape.outputs * shape.inputs * taps];
    let kernels = result.par_chunks_mut(shape.inputs * taps).enumerate();
    kernels.for_each(|(output, kernels)| {
        let (block, half, column) = (output / (2 * SIDE), output / SIDE % 2, output % SIDE);
        for (input, kernel) in kernels.chunks_exact_mut(taps).enumerate() {
            let sums = &sums[input / SIDE * outputs + block];
            for (tap, to) in kernel.iter_mut().enumerate() {
                *to = sums[tap / 2][tap % 2][half].0[input % SIDE][column];
            }
        }
    });
    Ok(result)
}

/// How pictures lie behind one another.
struct Flat {
    stride: usize,
    /// Rows of a picture, columns of a row: the output's, and room for the reach of the kernel.
    rows: usize,
    pitch: usize,
    /// All pixels.
    length: usize,
    /// Numbers of one remainder of rows and columns of the stride: all pixels, and the reach behind the last step.
    part: usize,
    /// Numbers of a channel of the input, all remainders.
    channel: usize,
}

impl Flat {
    fn new(shape: &ConvShape, pictures: usize, rows: usize, columns: usize) -> Self {
        let reach = (shape.side - 1) / shape.stride;
        let (rows, pitch) = (rows + reach, columns + reach);
        let length = pictures * rows * pitch;
        let part = (length.next_multiple_of(STEP) + reach * (pitch + 1)).next_multiple_of(STEP);
        // Channels a power of two apart would fall on the same lines of the cache.
        let part = part + STEP * usize::from(part.is_multiple_of(1024));
        Self {
            stride: shape.stride,
            rows,
            pitch,
            length,
            part,
            channel: shape.stride * shape.stride * part,
        }
    }

    /// Where a kernel place starts in a channel.
    fn tap(&self, tap: usize, side: usize) -> usize {
        let (y, x) = (tap / side, tap % side);
        let remainder = (y % self.stride) * self.stride + x % self.stride;
        remainder * self.part + y / self.stride * self.pitch + x / self.stride
    }

    /// `[inputs, remainders of rows and columns, part]`, inputs filled up to whole tiles.
    fn inputs(
        &self,
        amx: Amx,
        shape: &ConvShape,
        x: &[f32],
        (height, width): (usize, usize),
    ) -> Vec<u16> {
        let (stride, before) = (self.stride, shape.padding.0);
        let mut values = vec![0; shape.inputs.next_multiple_of(SIDE) * self.channel];
        let channels = values.par_chunks_mut(self.channel).take(shape.inputs);
        channels.enumerate().for_each(|(channel, to)| {
            let planes = x.chunks_exact(height * width).skip(channel);
            for (picture, plane) in planes.step_by(shape.inputs).enumerate() {
                for (y, line) in (before..).zip(plane.chunks_exact(width)) {
                    if y / stride >= self.rows {
                        break;
                    }
                    let row = (picture * self.rows + y / stride) * self.pitch;
                    for remainder in 0..stride {
                        // The first column of the picture that has this remainder, and its place.
                        let x = (remainder + stride - before % stride) % stride;
                        let part = (y % stride * stride + remainder) * self.part;
                        let (Some(line), at) = (line.get(x..), (x + before) / stride) else {
                            continue;
                        };
                        let to = &mut to[part + row..][..self.pitch];
                        round(amx, line, stride, &mut to[at.min(self.pitch)..]);
                    }
                }
            }
        });
        values
    }

    /// For each 16 outputs, for each step a tile: 16 pairs of pixels by 16 outputs.
    fn gradients(
        &self,
        amx: Amx,
        shape: &ConvShape,
        grad: &[f32],
        (rows, columns): (usize, usize),
    ) -> Vec<Tile<u32>> {
        let steps = self.length.div_ceil(STEP);
        let blocks = shape.outputs.div_ceil(SIDE);
        let mut tiles = vec![Tile([[0; SIDE]; SIDE]); blocks * steps];
        // A few steps at a time, so that also one block of outputs keeps all threads busy.
        let parts = tiles.par_chunks_mut(steps).enumerate();
        parts.for_each(|(block, tiles)| {
            let first = block * SIDE;
            let outputs = SIDE.min(shape.outputs - first);
            tiles
                .par_chunks_mut(NEAR)
                .enumerate()
                .for_each(|(part, tiles)| {
                    let from = part * NEAR * STEP;
                    let mut flat = [[0u16; NEAR * STEP]; SIDE];
                    for (output, flat) in flat.iter_mut().enumerate().take(outputs) {
                        for line in from / self.pitch..(from + NEAR * STEP).div_ceil(self.pitch) {
                            let (picture, y) = (line / self.rows, line % self.rows);
                            let plane = picture * shape.outputs + first + output;
                            if y >= rows || picture * self.rows * self.pitch >= self.length {
                                continue;
                            }
                            let values = &grad[(plane * rows + y) * columns..][..columns];
                            // The part of this row that lies here.
                            let skip = from.saturating_sub(line * self.pitch).min(columns);
                            let at = (line * self.pitch).saturating_sub(from);
                            round(amx, &values[skip..], 1, &mut flat[at..]);
                        }
                    }
                    amx.vectorised(
                        #[inline(always)]
                        || {
                            for (step, tile) in tiles.iter_mut().enumerate() {
                                for (pair, row) in tile.0.iter_mut().enumerate() {
                                    let at = step * STEP + 2 * pair;
                                    for (to, flat) in row.iter_mut().zip(&flat) {
                                        *to = u32::from(flat[at]) | (u32::from(flat[at + 1]) << 16);
                                    }
                                }
                            }
                        },
                    );
                });
        });
        tiles
    }
}

/// Every `stride`-th number, rounded, as far as there is room.
fn round(amx: Amx, from: &[f32], stride: usize, to: &mut [u16]) {
    amx.vectorised(
        #[inline(always)]
        || {
            if stride == 1 {
                for (to, &x) in to.iter_mut().zip(from) {
                    *to = (rounded(x) >> 16) as u16;
                }
            } else {
                for (to, &x) in to.iter_mut().zip(from.iter().step_by(stride)) {
                    *to = (rounded(x) >> 16) as u16;
                }
            }
        },
    );
}
