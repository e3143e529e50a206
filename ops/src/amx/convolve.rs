//! Convolution, and the gradient of its input, which is convolutions too.
//!
//! A tile of weights is 16 outputs by 32 inputs at one kernel place, a tile of pixels 16 pairs of inputs by 16 neighbours of a row: a
//! kernel place is only another start of it. The product is 16 outputs by 16 pixels, as results lie in memory.

use rayon::prelude::*;

use super::pair;
use super::tiles::{Amx, Offsets, Place, SIDE, Tile};
use crate::conv::{check, length};
use crate::conv_grad::{Batch, Phase, Phases};
use crate::{ConvShape, Error};

/// Output channels computed together: two tiles.
const BLOCK: usize = 2 * SIDE;

/// A convolution of pictures as [`plain::conv2d`](crate::plain::conv2d) would compute it after rounding pictures and weight.
pub(crate) struct Forward {
    amx: Amx,
    shape: ConvShape,
    weights: Vec<Tile<u32>>,
    bias: Vec<f32>,
}

impl Forward {
    /// Of `weight` `[outputs, inputs, side, side]`, rounded, and `bias` `[outputs]`.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Empty`].
    pub(crate) fn new(
        amx: Amx,
        shape: &ConvShape,
        weight: &[f32],
        bias: &[f32],
    ) -> Result<Self, Error> {
        check(shape, weight, bias)?;
        let taps = shape.side * shape.side;
        let weights = pack(shape.outputs, shape.inputs, taps, |output, input, tap| {
            weight[(output * shape.inputs + input) * taps + tap]
        });
        Ok(Self {
            amx,
            shape: *shape,
            weights,
            bias: bias.into(),
        })
    }

    /// Of a picture `[inputs, height, width]` into `result` `[outputs, height', width']`.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Empty`] where the kernel does not fit into the picture.
    pub(crate) fn run(
        &self,
        x: &[f32],
        (height, width): (usize, usize),
        result: &mut [f32],
    ) -> Result<(), Error> {
        let shape = &self.shape;
        let one = Batch {
            pictures: 1,
            height,
            width,
        };
        let (rows, columns) = one.output(shape)?;
        length("input", shape.inputs * height * width, x.len())?;
        length("output", shape.outputs * rows * columns, result.len())?;
        let pixels = Pixels::new(self.amx, shape, x, height, width, columns);
        let taps = (0..shape.side).flat_map(|ky| (0..shape.side).map(move |kx| (ky, kx)));
        let offsets = pixels.offsets(taps);
        let blocks = result.par_chunks_mut(BLOCK * rows * columns).enumerate();
        blocks.for_each(|(at, result)| {
            let bias = &self.bias[at * BLOCK..];
            Work {
                amx: self.amx,
                pixels: &pixels,
                offsets: &offsets,
                weights: &self.weights[2 * at * offsets.len()..],
                bias: &bias[..bias.len().min(BLOCK)],
                rows,
                columns,
            }
            .run(result);
        });
        Ok(())
    }
}

/// The gradient of the input of a convolution of pictures of one size.
pub(crate) struct InputGradient {
    amx: Amx,
    shape: ConvShape,
    size: (usize, usize),
    /// Rows and columns of the output.
    output: (usize, usize),
    plan: Phases,
    /// Of each phase.
    weights: Vec<Vec<Tile<u32>>>,
}

impl InputGradient {
    /// Of `weight` `[outputs, inputs, side, side]`, rounded, for pictures as in `batch`.
    ///
    /// # Errors
    /// [`Error::Empty`] where the kernel does not fit into the picture.
    pub(crate) fn new(
        amx: Amx,
        shape: &ConvShape,
        weight: &[f32],
        batch: Batch,
    ) -> Result<Self, Error> {
        length("weight", shape.weights(), weight.len())?;
        let output = batch.output(shape)?;
        let plan = Phases::new(shape, batch, output.0);
        let square = shape.side * shape.side;
        let pack_phase = |phase: &Phase| {
            let places = &phase.places;
            pack(
                shape.inputs,
                shape.outputs,
                places.len(),
                |to, from, tap| weight[(from * shape.inputs + to) * square + places[tap].0],
            )
        };
        Ok(Self {
            amx,
            shape: *shape,
            size: (batch.height, batch.width),
            output,
            weights: plan.phases.iter().map(pack_phase).collect(),
            plan,
        })
    }

    /// From the gradient of the output of one picture, rounded, `[outputs, height', width']`, into `result` `[inputs, height, width]`.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub(crate) fn run(&self, grad: &[f32], result: &mut [f32]) -> Result<(), Error> {
        let (shape, plan, (rows, columns)) = (&self.shape, &self.plan, self.output);
        let area = self.size.0 * self.size.1;
        length("gradient", shape.outputs * rows * columns, grad.len())?;
        length("result", shape.inputs * area, result.len())?;
        let pixels = Pixels::new(self.amx, &plan.view, grad, rows, columns, plan.columns);
        let blocks = result.par_chunks_mut(BLOCK * area).enumerate();
        blocks.for_each(|(at, result)| {
            for (phase, weights) in plan.phases.iter().zip(&self.weights) {
                let offsets = pixels.offsets(phase.places.iter().map(|place| place.1));
                let work = Work {
                    amx: self.amx,
                    pixels: &pixels,
                    offsets: &offsets,
                    weights: &weights[2 * at * offsets.len()..],
                    bias: &[],
                    rows: phase.rows,
                    columns: phase.columns,
                };
                if shape.stride == 1 {
                    work.run(result);
                    continue;
                }
                let channels = result.len() / area;
                let mut values = vec![0.0; channels * phase.rows * phase.columns];
                work.run(&mut values);
                phase.scatter(shape.stride, &values, result, self.size);
            }
        });
        Ok(())
    }
}

/// For each 16 outputs, an even number of times: for each 32 inputs, for each tap, a tile.
fn pack(
    outputs: usize,
    inputs: usize,
    taps: usize,
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> Vec<Tile<u32>> {
    let blocks = inputs.div_ceil(2 * SIDE);
    let mut tiles = vec![Tile([[0; SIDE]; SIDE]); outputs.div_ceil(BLOCK) * 2 * blocks * taps];
    let of_outputs = tiles.par_chunks_mut(blocks * taps).enumerate();
    of_outputs.for_each(|(group, tiles)| {
        // Tile after tile: the weights that one is made of lie near each other.
        for (at, tile) in tiles.iter_mut().enumerate() {
            let (block, tap) = (at / taps, at % taps);
            let rows = (group * SIDE..outputs).zip(&mut tile.0);
            for (output, row) in rows {
                let pairs = (block * 2 * SIDE..inputs).step_by(2).zip(row);
                for (input, to) in pairs {
                    let second = (input + 1 < inputs).then(|| weight(output, input + 1, tap));
                    *to = pair(weight(output, input, tap), second.unwrap_or(0.0));
                }
            }
        }
    });
    tiles
}

/// A picture with its zeros around it, rounded: `[rows][pairs of inputs][column remainders of the stride][columns]`.
struct Pixels {
    values: Vec<u32>,
    /// Blocks of 32 inputs.
    blocks: usize,
    stride: usize,
    /// Columns of one remainder.
    part: usize,
    /// Numbers of a row.
    row: usize,
}

impl Pixels {
    /// For `shape`'s kernel laid at `columns` places of a row.
    fn new(
        amx: Amx,
        shape: &ConvShape,
        input: &[f32],
        height: usize,
        width: usize,
        columns: usize,
    ) -> Self {
        let (stride, (before, after)) = (shape.stride, shape.padding);
        let blocks = shape.inputs.div_ceil(2 * SIDE);
        let part = columns.next_multiple_of(SIDE) + (shape.side - 1) / stride;
        let row = blocks * SIDE * stride * part;
        let mut values = vec![0; (before + height + after) * row];
        let lines = values[before * row..][..height * row].par_chunks_mut(row);
        lines.enumerate().for_each(|(y, to)| {
            let line = |channel: usize| &input[(channel * height + y) * width..][..width];
            for (to, channel) in to
                .chunks_exact_mut(stride * part)
                .zip((0..shape.inputs).step_by(2))
            {
                let second = (channel + 1 < shape.inputs).then(|| line(channel + 1));
                let first = line(channel);
                amx.vectorised(
                    #[inline(always)]
                    || {
                        for remainder in 0..stride {
                            // The first column of the picture that has this remainder, and its place.
                            let x = (remainder + stride - before % stride) % stride;
                            let at = remainder * part + (x + before) / stride;
                            let to =
                                &mut to[at.min((remainder + 1) * part)..(remainder + 1) * part];
                            fill(to, first, second, x, stride);
                        }
                    },
                );
            }
        });
        Self {
            values,
            blocks,
            stride,
            part,
            row,
        }
    }

    /// Of each tap (row and column) of each 32 inputs.
    fn offsets(&self, taps: impl Iterator<Item = (usize, usize)> + Clone) -> Offsets {
        let stride = self.stride;
        Offsets::new((0..self.blocks).flat_map(|block| {
            let block = block * SIDE * stride * self.part;
            taps.clone().map(move |(ky, kx)| {
                block + ky * self.row + (kx % stride) * self.part + kx / stride
            })
        }))
    }
}

/// Pairs of every `stride`-th number from `x` on.
#[inline(always)]
fn fill(to: &mut [u32], first: &[f32], second: Option<&[f32]>, x: usize, stride: usize) {
    let Some(first) = first.get(x..) else { return };
    let second = second.and_then(|second| second.get(x..));
    match second {
        Some(second) if stride == 1 => {
            for ((to, &a), &b) in to.iter_mut().zip(first).zip(second) {
                *to = pair(a, b);
            }
        }
        Some(second) => {
            let values = first
                .iter()
                .step_by(stride)
                .zip(second.iter().step_by(stride));
            for (to, (&a, &b)) in to.iter_mut().zip(values) {
                *to = pair(a, b);
            }
        }
        None => {
            for (to, &a) in to.iter_mut().zip(first.iter().step_by(stride)) {
                *to = pair(a, 0.0);
            }
        }
    }
}

/// One block of output channels of one picture.
struct Work<'a> {
    amx: Amx,
    pixels: &'a Pixels,
    offsets: &'a Offsets,
    /// From the block's first tile on.
    weights: &'a [Tile<u32>],
    /// Of the block's outputs; none is 0.
    bias: &'a [f32],
    rows: usize,
    columns: usize,
}

impl Work<'_> {
    /// Into `[at most BLOCK, rows, columns]`.
    fn run(&self, result: &mut [f32]) {
        let positions = self.rows * self.columns;
        let outputs = result.len() / positions;
        let (steps, pixels) = (self.offsets.len(), self.pixels);
        let weights = [&self.weights[..steps], &self.weights[steps..2 * steps]];
        let start: [Tile<f32>; 2] = std::array::from_fn(|block| {
            Tile(std::array::from_fn(|output| {
                let bias = self.bias.get(block * SIDE + output);
                [bias.copied().unwrap_or(0.0); SIDE]
            }))
        });
        let whole = outputs == BLOCK && self.columns.is_multiple_of(SIDE);
        let mut scratch = [0.0; BLOCK * 2 * SIDE];
        let columns = (0..self.columns).step_by(SIDE);
        let mut tiles = (0..self.rows).flat_map(|y| columns.clone().map(move |x| (y, x)));
        while let Some(first) = tiles.next() {
            // A last tile without a neighbour is computed twice.
            let pair = [first, tiles.next().unwrap_or(first)];
            let from = pair.map(|(y, x)| y * pixels.stride * pixels.row + x);
            let from = Place {
                at: from[0],
                stride: pixels.stride * pixels.part,
                next: from[1] - from[0],
            };
            let to = pair.map(|(y, x)| y * self.columns + x);
            let convolve = |output: &mut [f32], to, second| {
                let (values, offsets) = (&pixels.values, self.offsets);
                let start = [&start[0], &start[1]];
                self.amx
                    .convolve(weights, start, values, offsets, from, output, to, second);
            };
            if whole {
                let place = Place {
                    at: to[0],
                    stride: positions,
                    next: to[1] - to[0],
                };
                convolve(result, place, SIDE * positions);
                continue;
            }
            let place = Place {
                at: 0,
                stride: 2 * SIDE,
                next: SIDE,
            };
            convolve(&mut scratch, place, SIDE * 2 * SIDE);
            for (output, values) in scratch.chunks_exact(2 * SIDE).take(outputs).enumerate() {
                for ((values, (_, x)), to) in values.chunks_exact(SIDE).zip(pair).zip(to) {
                    let count = SIDE.min(self.columns - x);
                    result[output * positions + to..][..count].copy_from_slice(&values[..count]);
                }
            }
        }
    }
}
