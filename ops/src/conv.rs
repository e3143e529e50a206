//! Convolution on the CPU: no im2col, no reordering of channels.
//!
//! Each output is one chain of fused multiply-adds from the bias, over input channels, then kernel rows, then kernel columns. Vectors lie
//! along the picture's rows, so that order is the same for every kernel, tile and thread, and so is every bit of the result.

mod planes;

use rayon::prelude::*;

use crate::lanes::{Job, LANES, Lanes, Proven};
use crate::{Error, Input, Kernel, Store};

pub(crate) use planes::Planes;

/// Output channels computed together.
pub(crate) const BLOCK: usize = 8;
/// Numbers of the input that a band of rows is made of, 512 KiB: with the weights of a block they stay in the second cache.
const BAND: usize = 1 << 17;
/// Outputs from which on a 1x1 convolution's input is laid out for it.
const OFTEN: usize = 64;
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

    pub(crate) fn weights(&self) -> usize {
        self.outputs * self.inputs * self.side * self.side
    }

    /// Whether nothing depends on where a picture's rows end: then one long row wastes no lanes.
    pub(crate) fn is_flat(&self) -> bool {
        self.side == 1 && self.stride == 1 && self.padding == (0, 0)
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
        for (block, packed) in packed.chunks_exact_mut(taps).enumerate() {
            pack_block(packed, block, shape.outputs, |tap, output| {
                weight[output * taps + tap]
            });
        }
        Ok(Self {
            shape,
            weights: packed,
            bias: in_blocks(bias),
            kernel: Proven::best(),
        })
    }

    /// A 1x1 convolution without bias whose weights are a matrix `[outputs, inputs]`.
    pub(crate) fn of_rows(kernel: Proven, inputs: usize, outputs: usize, matrix: &[f32]) -> Self {
        Self::of_matrix(kernel, inputs, outputs, |input, output| {
            matrix[output * inputs + input]
        })
    }

    /// As [`Self::of_rows`], of the first columns of a matrix `[inputs, pitch]`.
    pub(crate) fn of_columns(
        kernel: Proven,
        inputs: usize,
        outputs: usize,
        matrix: &[f32],
        pitch: usize,
    ) -> Self {
        Self::of_matrix(kernel, inputs, outputs, |input, output| {
            matrix[input * pitch + output]
        })
    }

    fn of_matrix(
        kernel: Proven,
        inputs: usize,
        outputs: usize,
        weight: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let blocks = outputs.div_ceil(BLOCK);
        let mut weights = vec![[0.0; BLOCK]; blocks * inputs];
        weights
            .par_chunks_mut(inputs)
            .enumerate()
            .for_each(|(block, weights)| {
                pack_block(weights, block, outputs, &weight);
            });
        Self {
            shape: ConvShape {
                inputs,
                outputs,
                side: 1,
                stride: 1,
                padding: (0, 0),
            },
            weights,
            bias: vec![[0.0; BLOCK]; blocks],
            kernel,
        }
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

    /// Convolves `input` `[inputs, height, width]`, sizes as they are read, into `output` `[outputs, height', width']`, sizes by
    /// [`ConvShape::output`]; or adds to it, as `store` says. Runs on rayon's current pool.
    ///
    /// # Errors
    /// [`Error::Length`], of the input's scales too; [`Error::Empty`] where the kernel does not fit into the picture.
    pub fn run(&self, input: Input<'_>, output: &mut [f32], store: Store) -> Result<(), Error> {
        let shape = &self.shape;
        input.check(shape.inputs)?;
        let (rows, columns) = output_size(shape, &input, output)?;
        // Of few outputs nothing is read so often that it pays to lay it out first, where rows are of whole tiles anyway.
        let seldom = shape.outputs < OFTEN && columns.is_multiple_of(TILE);
        if shape.is_flat() && input.plain().is_some() && !seldom {
            Flat::new(self.kernel, shape.inputs, input).convolve(self, output, store);
            return Ok(());
        }
        let planes = Planes::new(self.kernel, shape, input, columns);
        let taps = planes.taps(shape.side);
        Sums {
            kernel: self.kernel,
            planes: &planes,
            taps: &taps,
            inputs: shape.inputs,
            step: shape.stride * planes.row,
            weights: &self.weights,
            bias: &self.bias,
            store,
        }
        .run(output, (rows, columns));
        Ok(())
    }
}

/// What 1x1 convolutions are taken of, laid out once for all of them.
pub(crate) struct Flat<'a> {
    planes: Planes<'a>,
    /// Rows and columns that a channel is seen as.
    size: (usize, usize),
}

impl<'a> Flat<'a> {
    /// Of `input`, `inputs` channels as they are: neither normalised nor doubled.
    pub(crate) fn new(kernel: Proven, inputs: usize, input: Input<'a>) -> Self {
        let positions = input.height() * input.width();
        if positions.is_multiple_of(TILE) {
            return Self {
                planes: Planes::by_tiles(kernel, inputs, input),
                size: (positions / TILE, TILE),
            };
        }
        let shape = ConvShape {
            inputs,
            outputs: 1,
            side: 1,
            stride: 1,
            padding: (0, 0),
        };
        // One long row wastes no lanes.
        let input = input.as_rows_of(positions);
        Self {
            planes: Planes::new(kernel, &shape, input, positions),
            size: (1, positions),
        }
    }

    /// `conv`, which is 1x1 and of as many inputs, into `output` `[outputs, positions]`.
    pub(crate) fn convolve(&self, conv: &Conv2d, output: &mut [f32], store: Store) {
        Sums {
            kernel: conv.kernel,
            planes: &self.planes,
            taps: &[0],
            inputs: conv.shape.inputs,
            step: self.planes.row,
            weights: &conv.weights,
            bias: &conv.bias,
            store,
        }
        .run(output, self.size);
    }
}

/// The weights of a block of outputs, for each tap (an input, a kernel row and column); lanes behind the last output stay.
fn pack_block(
    packed: &mut [[f32; BLOCK]],
    block: usize,
    outputs: usize,
    weight: impl Fn(usize, usize) -> f32,
) {
    let first = block * BLOCK;
    let count = BLOCK.min(outputs - first);
    for (tap, packed) in packed.iter_mut().enumerate() {
        for (lane, to) in packed[..count].iter_mut().enumerate() {
            *to = weight(tap, first + lane);
        }
    }
}

/// What every output is a sum of.
pub(crate) struct Sums<'a> {
    pub(crate) kernel: Proven,
    pub(crate) planes: &'a Planes<'a>,
    /// By [`Planes::tap`].
    pub(crate) taps: &'a [usize],
    pub(crate) inputs: usize,
    /// Values from an output row's first input to that of the next.
    pub(crate) step: usize,
    /// For each block of outputs: for each input, for each tap, the block's weights.
    pub(crate) weights: &'a [[f32; BLOCK]],
    /// Of each block; none is 0.
    pub(crate) bias: &'a [[f32; BLOCK]],
    pub(crate) store: Store,
}

impl Sums<'_> {
    /// Into `[outputs, rows, columns]`, in bands of rows: all outputs are taken of a band before the next is turned to, so that its input
    /// is read from the cache. No sum depends on the bands.
    pub(crate) fn run(&self, output: &mut [f32], (rows, columns): (usize, usize)) {
        let outputs = output.len() / (rows * columns);
        let blocks = outputs.div_ceil(BLOCK);
        // Of the input, for a row of the output.
        let numbers = if self.planes.plane < self.planes.row {
            self.step
        } else {
            self.inputs * self.step
        };
        let band = (BAND / numbers).clamp(1, rows);
        let mut tasks: Vec<Vec<&mut [f32]>> = Vec::new();
        tasks.resize_with(rows.div_ceil(band) * blocks, || Vec::with_capacity(BLOCK));
        for (channel, plane) in output.chunks_mut(rows * columns).enumerate() {
            for (at, part) in plane.chunks_mut(band * columns).enumerate() {
                tasks[at * blocks + channel / BLOCK].push(part);
            }
        }
        let weights = self.inputs * self.taps.len();
        tasks
            .into_par_iter()
            .enumerate()
            .for_each(|(task, mut output)| {
                let (at, block) = (task / blocks, task % blocks);
                self.kernel.run(BlockJob {
                    values: &self.planes.values[at * band * self.step..],
                    plane: self.planes.plane,
                    taps: self.taps,
                    inputs: self.inputs,
                    step: self.step,
                    weights: &self.weights[block * weights..][..weights],
                    bias: self.bias.get(block).unwrap_or(&[0.0; BLOCK]),
                    output: &mut output,
                    columns,
                    store: self.store,
                });
            });
    }
}

/// One block of output channels in one band of rows.
struct BlockJob<'a, 'b> {
    /// From the band's first row on.
    values: &'a [f32],
    /// Values of a channel.
    plane: usize,
    taps: &'a [usize],
    inputs: usize,
    step: usize,
    /// For each input, for each tap, the block's weights.
    weights: &'a [[f32; BLOCK]],
    bias: &'a [f32; BLOCK],
    /// At most [`BLOCK`] channels, each `[rows, columns]`.
    output: &'a mut [&'b mut [f32]],
    columns: usize,
    store: Store,
}

impl Job for BlockJob<'_, '_> {
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

impl BlockJob<'_, '_> {
    /// Tiles of `O` output channels and `16 T` columns.
    #[inline(always)]
    fn all<L: Lanes, const O: usize, const T: usize>(&mut self, lanes: L) {
        let outputs = self.output.len();
        let rows = self.output.first().map_or(0, |o| o.len() / self.columns);
        for first in (0..outputs).step_by(O) {
            for y in 0..rows {
                for x in (0..self.columns).step_by(T * LANES) {
                    let sums = self.tile::<L, O, T>(lanes, first, y * self.step + x);
                    for (output, sums) in self.output[first..].iter_mut().zip(&sums) {
                        let row = &mut output[y * self.columns..][..self.columns];
                        for (to, &sum) in row[x..].chunks_mut(LANES).zip(sums) {
                            self.store.put(&lanes.store(sum).0[..to.len()], to);
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
        // Counted over the array alone: the sums stay in registers where no index is unknown.
        for (o, sums) in sums.iter_mut().enumerate() {
            *sums = [lanes.splat(self.bias[first + o]); T];
        }
        let mut weights = self.weights.iter();
        for input in 0..self.inputs {
            let plane = &self.values[input * self.plane + at..];
            for (&tap, weights) in self.taps.iter().zip(&mut weights) {
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

/// Rows and columns of the output, whose length is checked.
pub(crate) fn output_size(
    shape: &ConvShape,
    input: &Input<'_>,
    output: &[f32],
) -> Result<(usize, usize), Error> {
    let sizes = (shape.output(input.height()), shape.output(input.width()));
    let (Some(rows), Some(columns)) = sizes else {
        return Err(Error::Empty { what: "output" });
    };
    length("output", shape.outputs * rows * columns, output.len())?;
    if output.is_empty() {
        return Err(Error::Empty { what: "output" });
    }
    Ok((rows, columns))
}

/// A number for each output channel, by blocks; those behind the last are 0.
pub(crate) fn in_blocks(bias: &[f32]) -> Vec<[f32; BLOCK]> {
    let mut blocks = vec![[0.0; BLOCK]; bias.len().div_ceil(BLOCK)];
    for (block, bias) in blocks.iter_mut().zip(bias.chunks(BLOCK)) {
        block[..bias.len()].copy_from_slice(bias);
    }
    blocks
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
