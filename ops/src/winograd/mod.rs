//! 3x3 convolution with stride 1 by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2016, arXiv 1509.09308): a tile of 4x4
//! outputs costs 36 products for each pair of channels instead of 144.
//!
//! ```text
//! Y = A' ((G g G') . (B' d B)) A      d: 6x6 inputs, g: 3x3 weights, Y: 4x4 outputs, . over inputs: a matrix product at each of 36 places
//! ```
//!
//! Sixteen tiles lie side by side in a vector, from the inputs to the outputs. A part of the picture is worked on at a time, place by place,
//! so that what is multiplied at a place stays in a core's own caches. Each output is computed in one order of operations, so its bits depend on
//! neither kernel, part nor thread; they are not those of [`plain::conv2d`](crate::plain::conv2d), from which they differ by rounding.

mod part;
mod transform;

use std::cell::RefCell;

use rayon::prelude::*;

use crate::conv::{BLOCK, check, in_blocks, output_size};
use crate::lanes::{LANES, Proven};
use crate::{ConvShape, Error, Input, Kernel, Store};
use part::{Part, Scratch};
use transform::{PLACES, STEP, weights_of};

/// Numbers of transformed input that are held at a time, 1.1 MiB.
const HELD: usize = PLACES * 128 * 64;
/// Most tiles of a part.
const MOST_TILES: usize = 64;
/// Tasks that a picture is divided into at least, if it can be; where it is large, for each thread.
const TASKS: usize = 4;
/// The transformed weights are four times the weights: beyond so many they are more than the time saved is worth.
const MOST_PAIRS: usize = 256 * 256;
/// With fewer channels the transforms cost more than they save.
const FEWEST_CHANNELS: usize = 8;

/// A 3x3 convolution with stride 1 and bias, its weights transformed and packed for the CPU.
#[derive(Clone, Debug)]
pub struct Winograd {
    shape: ConvShape,
    /// For each block of outputs: for each place, for each input, the block's weights.
    weights: Vec<[f32; BLOCK]>,
    bias: Vec<[f32; BLOCK]>,
    kernel: Proven,
}

impl Winograd {
    /// Whether a convolution can be computed this way, and is faster so.
    #[must_use]
    pub fn suits(shape: &ConvShape) -> bool {
        shape.side == 3
            && shape.stride == 1
            && shape.inputs >= FEWEST_CHANNELS
            && shape.outputs >= FEWEST_CHANNELS
            && shape.inputs.saturating_mul(shape.outputs) <= MOST_PAIRS
    }

    /// Transforms and packs `weight` `[outputs, inputs, 3, 3]` and `bias` `[outputs]`, both row-major, on the calling thread alone.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Empty`] if a number of `shape` is 0 where it may not be; [`Error::Window`] for another side or stride.
    pub fn new(shape: ConvShape, weight: &[f32], bias: &[f32]) -> Result<Self, Error> {
        check(&shape, weight, bias)?;
        if shape.side != 3 || shape.stride != 1 {
            return Err(Error::Window {
                side: shape.side,
                stride: shape.stride,
            });
        }
        let (inputs, outputs) = (shape.inputs, shape.outputs);
        let blocks = outputs.div_ceil(BLOCK);
        let mut packed = vec![[0.0; BLOCK]; blocks * PLACES * inputs];
        let of_blocks = packed
            .chunks_exact_mut(PLACES * inputs)
            .zip(weight.chunks(BLOCK * inputs * 9));
        for (packed, weight) in of_blocks {
            for input in 0..inputs {
                let mut places = [[0.0; BLOCK]; PLACES];
                let kernels = weight.as_chunks::<9>().0[input..].iter().step_by(inputs);
                for (lane, taps) in kernels.enumerate() {
                    for (place, value) in places.iter_mut().zip(weights_of(taps)) {
                        place[lane] = value;
                    }
                }
                for (to, place) in packed[input..].iter_mut().step_by(inputs).zip(places) {
                    *to = place;
                }
            }
        }
        Ok(Self {
            shape,
            weights: packed,
            bias: in_blocks(bias),
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

    /// Convolves `input` `[inputs, height, width]`, sizes as they are read, into `output` `[outputs, height', width']`, sizes by
    /// [`ConvShape::output`]; or adds to it, as `store` says. Runs on rayon's current pool. A thread keeps 2.3 KB for each input and
    /// output of each sixteen tiles that it works on at a time, and two rows of each input: of 128 of each, 2.6 MB.
    ///
    /// # Errors
    /// [`Error::Length`], of the input's scales too; [`Error::Empty`] where the kernel does not fit into the picture.
    pub fn run(&self, input: Input<'_>, output: &mut [f32], store: Store) -> Result<(), Error> {
        let shape = &self.shape;
        input.check(shape.inputs)?;
        let (rows, columns) = output_size(shape, &input, output)?;
        let across = columns.div_ceil(STEP);
        let most = (HELD / (PLACES * shape.inputs)).clamp(LANES, MOST_TILES);
        let down = (most / across).clamp(1, rows.div_ceil(STEP));
        // A task is a share of the outputs in a band of rows, and the parts of that one below the other: two rows that the upper reads the
        // lower reads too, and has them from it. So a band is no smaller than threads need.
        let parts = rows.div_ceil(down * STEP);
        let band = (parts / (TASKS * rayon::current_num_threads())).max(1) * down * STEP;
        let bands = rows.div_ceil(band);
        let blocks = self.bias.len();
        let shares = TASKS.div_ceil(bands).min(blocks);
        let share = blocks.div_ceil(shares);
        let shares = blocks.div_ceil(share);
        let mut tasks: Vec<Vec<&mut [f32]>> = Vec::new();
        tasks.resize_with(bands * shares, || Vec::with_capacity(share * BLOCK));
        for (channel, plane) in output.chunks_mut(rows * columns).enumerate() {
            let which = channel / (share * BLOCK);
            for (at, rows) in plane.chunks_mut(band * columns).enumerate() {
                tasks[at * shares + which].push(rows);
            }
        }
        let weights = PLACES * shape.inputs;
        tasks
            .into_par_iter()
            .enumerate()
            .for_each(|(task, mut output)| {
                let (at, first) = (task / shares * band, task % shares * share);
                let rows = band.min(rows - at);
                SCRATCH.with_borrow_mut(|scratch| {
                    for left in (0..across).step_by(most) {
                        for top in (0..rows).step_by(down * STEP) {
                            self.kernel.run(Part {
                                inputs: shape.inputs,
                                before: shape.padding.0,
                                input,
                                top: at + top,
                                below: top > 0,
                                left,
                                across: most.min(across - left),
                                down: (rows - top).div_ceil(STEP).min(down),
                                columns,
                                weights: &self.weights[first * weights..],
                                bias: &self.bias[first..],
                                output: &mut output,
                                skipped: top,
                                store,
                                scratch,
                            });
                        }
                    }
                });
            });
        Ok(())
    }
}

thread_local! {
    /// Nothing that runs while it is borrowed waits for other tasks, so no other task of the thread finds it borrowed.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}
