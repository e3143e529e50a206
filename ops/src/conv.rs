//! Convolution on the CPU: no im2col, no reordering of channels.
//!
//! Each output is one chain of fused multiply-adds from the bias, over input channels, then kernel rows, then kernel columns. Vectors lie
//! along the picture's rows, so that order is the same for every kernel, tile and thread, and so is every bit of the result.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::lanes::{Job, LANES, Lanes, Proven};
use crate::{Error, Kernel};

/// Output channels computed together.
const BLOCK: usize = 8;
/// Columns a padded row is a multiple of: the widest tile.
const TILE: usize = 2 * LANES;

/// What a square convolution does to sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Rows and columns of the kernel.
    pub side: usize,
    /// Step from output to output.
    pub stride: usize,
    /// Rows and columns of zeros before (above, left) and after (below, right) the picture.
    pub padding: (usize, usize),
}

impl ConvShape {
    /// Rows or columns of the output for `n` of the input; `None` where the kernel does not fit.
    #[must_use]
    pub fn output(&self, n: usize) -> Option<usize> {
        let padded = n + self.padding.0 + self.padding.1;
        Some(padded.checked_sub(self.side)? / self.stride + 1)
    }

    fn weights(&self) -> usize {
        self.outputs * self.inputs * self.side * self.side
    }
}

/// A convolution with bias, its weights packed for the CPU. [`plain::conv2d`](crate::plain::conv2d) defines the result.
#[derive(Clone, Debug)]
pub struct Conv2d {
    shape: ConvShape,
    /// For each block of outputs: for each input, kernel row and column, the block's weights.
    weights: Vec<[f32; BLOCK]>,
    bias: Vec<[f32; BLOCK]>,
    kernel: Proven,
}

impl Conv2d {
    /// Packs `weight` `[outputs, inputs, side, side]` and `bias` `[outputs]`, both row-major.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Empty`] if a number of `shape` is 0 where it may not be.
    pub fn new(shape: ConvShape, weight: &[f32], bias: &[f32]) -> Result<Self, Error> {
        check(&shape, weight, bias)?;
        let taps = shape.inputs * shape.side * shape.side;
        let blocks = shape.outputs.div_ceil(BLOCK);
        let mut packed = vec![[0.0; BLOCK]; blocks * taps];
        let mut packed_bias = vec![[0.0; BLOCK]; blocks];
        for (output, (row, &b)) in weight.chunks_exact(taps).zip(bias).enumerate() {
            let (block, lane) = (output / BLOCK, output % BLOCK);
            packed_bias[block][lane] = b;
            for (packed, &w) in packed[block * taps..].iter_mut().zip(row) {
                packed[lane] = w;
            }
        }
        Ok(Self {
            shape,
            weights: packed,
            bias: packed_bias,
            kernel: Proven::best(),
        })
    }

    /// The same convolution with a given kernel.
    ///
    /// # Errors
    /// [`Error::Kernel`] when this processor cannot run it.
    #[doc(hidden)]
    pub fn with_kernel(mut self, kernel: Kernel) -> Result<Self, Error> {
        self.kernel = Proven::new(kernel).ok_or(Error::Kernel { got: kernel })?;
        Ok(self)
    }

    /// What it does to sizes.
    #[must_use]
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Convolves `input` `[inputs, height, width]` into `output` `[outputs, height', width']`, sizes by [`ConvShape::output`].
    /// Runs on rayon's current pool.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Empty`] where the kernel does not fit into the picture.
    pub fn run(
        &self,
        input: &[f32],
        height: usize,
        width: usize,
        output: &mut [f32],
    ) -> Result<(), Error> {
        let shape = &self.shape;
        length("input", shape.inputs * height * width, input.len())?;
        // A 1x1 convolution with stride 1 knows no rows: one long one wastes no lanes.
        let flat = shape.side == 1 && shape.stride == 1 && shape.padding == (0, 0);
        let (height, width) = if flat {
            (1, height * width)
        } else {
            (height, width)
        };
        let (Some(rows), Some(columns)) = (shape.output(height), shape.output(width)) else {
            return Err(Error::Empty { what: "output" });
        };
        length("output", shape.outputs * rows * columns, output.len())?;
        if output.is_empty() {
            return Err(Error::Empty { what: "output" });
        }
        let planes = Planes::new(shape, input, height, width, columns);
        let taps = shape.inputs * shape.side * shape.side;
        output
            .par_chunks_mut(BLOCK * rows * columns)
            .zip(self.weights.par_chunks(taps))
            .zip(&self.bias)
            .for_each(|((output, weights), bias)| {
                self.kernel.run(BlockJob {
                    planes: &planes,
                    inputs: shape.inputs,
                    step: shape.stride * planes.row,
                    weights,
                    bias,
                    output,
                    rows,
                    columns,
                });
            });
        Ok(())
    }
}

/// The picture with its zeros around it. Columns are sorted by their remainder modulo the stride, so that those of one kernel column
/// lie side by side for neighbouring outputs.
struct Planes<'a> {
    values: Cow<'a, [f32]>,
    /// Values of a channel.
    plane: usize,
    /// Values of a row, all remainders.
    row: usize,
    /// Where each kernel row and column starts, from the place of the output.
    taps: Vec<usize>,
}

impl<'a> Planes<'a> {
    fn new(
        shape: &ConvShape,
        input: &'a [f32],
        height: usize,
        width: usize,
        columns: usize,
    ) -> Self {
        let ConvShape {
            side,
            stride,
            padding,
            ..
        } = *shape;
        // Room for whole tiles, shifted by the farthest kernel column.
        let part = columns.next_multiple_of(TILE) + (side - 1) / stride;
        let row = stride * part;
        let padded = height + padding.0 + padding.1;
        let plane = padded * row;
        let tap = |ky: usize, kx: usize| ky * row + (kx % stride) * part + kx / stride;
        let taps = (0..side).flat_map(|ky| (0..side).map(move |kx| (ky, kx)));
        let taps = taps.map(|(ky, kx)| tap(ky, kx)).collect();
        if plane == height * width {
            return Self {
                values: Cow::Borrowed(input),
                plane,
                row,
                taps,
            };
        }
        let mut values = vec![0.0; shape.inputs * plane];
        values
            .par_chunks_mut(plane)
            .zip(input.par_chunks(height * width))
            .for_each(|(plane, channel)| {
                for (y, line) in channel.chunks_exact(width).enumerate() {
                    let to = &mut plane[(y + padding.0) * row..][..row];
                    if stride == 1 {
                        let count = width.min(part.saturating_sub(padding.0));
                        to[padding.0..padding.0 + count].copy_from_slice(&line[..count]);
                        continue;
                    }
                    for (x, &value) in line.iter().enumerate() {
                        let x = x + padding.0;
                        // Columns behind the last kernel position have no place.
                        if x / stride < part {
                            to[(x % stride) * part + x / stride] = value;
                        }
                    }
                }
            });
        Self {
            values: Cow::Owned(values),
            plane,
            row,
            taps,
        }
    }
}

/// One block of output channels.
struct BlockJob<'a> {
    planes: &'a Planes<'a>,
    inputs: usize,
    /// Values from an output row's first input to that of the next.
    step: usize,
    weights: &'a [[f32; BLOCK]],
    bias: &'a [f32; BLOCK],
    /// `[at most BLOCK, rows, columns]`
    output: &'a mut [f32],
    rows: usize,
    columns: usize,
}

impl Job for BlockJob<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        if !L::MANY_REGISTERS {
            self.all::<L, 4, 1>(lanes);
        } else if self.columns > LANES {
            self.all::<L, 8, 2>(lanes);
        } else {
            self.all::<L, 8, 1>(lanes);
        }
    }
}

impl BlockJob<'_> {
    /// Tiles of `O` output channels and `16 T` columns.
    #[inline(always)]
    fn all<L: Lanes, const O: usize, const T: usize>(&mut self, lanes: L) {
        let outputs = self.output.len() / (self.rows * self.columns);
        for first in (0..outputs).step_by(O) {
            for y in 0..self.rows {
                for x in (0..self.columns).step_by(T * LANES) {
                    let sums = self.tile::<L, O, T>(lanes, first, y * self.step + x);
                    for (o, sums) in sums.iter().enumerate().take(outputs - first) {
                        let at = ((first + o) * self.rows + y) * self.columns;
                        let row = &mut self.output[at..at + self.columns];
                        for (to, &sum) in row[x..].chunks_mut(LANES).zip(sums) {
                            to.copy_from_slice(&lanes.store(sum).0[..to.len()]);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn tile<L: Lanes, const O: usize, const T: usize>(
        &self,
        lanes: L,
        first: usize,
        at: usize,
    ) -> [[L::V; T]; O] {
        let mut sums = [[lanes.splat(0.0); T]; O];
        for (sums, &bias) in sums.iter_mut().zip(&self.bias[first..]) {
            *sums = [lanes.splat(bias); T];
        }
        let mut weights = self.weights.iter();
        for input in 0..self.inputs {
            let plane = &self.planes.values[input * self.planes.plane + at..];
            for (&tap, weights) in self.planes.taps.iter().zip(&mut weights) {
                let mut x = [lanes.splat(0.0); T];
                for (t, values) in plane[tap..tap + T * LANES].chunks_exact(LANES).enumerate() {
                    if let Ok(values) = values.try_into() {
                        x[t] = lanes.load_from(values);
                    }
                }
                for o in 0..O {
                    let w = lanes.splat(weights[first + o]);
                    for t in 0..T {
                        sums[o][t] = lanes.mul_add(x[t], w, sums[o][t]);
                    }
                }
            }
        }
        sums
    }
}

/// Checks a convolution's numbers.
pub(crate) fn check(shape: &ConvShape, weight: &[f32], bias: &[f32]) -> Result<(), Error> {
    for (what, n) in [
        ("inputs", shape.inputs),
        ("outputs", shape.outputs),
        ("side", shape.side),
        ("stride", shape.stride),
    ] {
        if n == 0 {
            return Err(Error::Empty { what });
        }
    }
    length("weight", shape.weights(), weight.len())?;
    length("bias", shape.outputs, bias.len())
}

pub(crate) fn length(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Length {
        what,
        expected,
        got,
    })
}
