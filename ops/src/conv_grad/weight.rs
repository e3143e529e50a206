//! The gradient of a convolution's weight: for each output channel and kernel place, a sum over all pixels of all pictures.
//!
//! Lanes lie along the rows. Each sum is sixteen chains of fused multiply-adds over a group of pictures, the lanes then added in pairs,
//! and the groups added in order; groups depend on shapes only.

use std::borrow::Cow;

use rayon::prelude::*;

use super::Batch;
use crate::conv::{BLOCK, Planes, length};
use crate::lanes::{Job, LANES, Lanes, Proven, Row};
use crate::{ConvShape, Error, Input};

/// Numbers that are laid out for the sums at a time, about 16 MB.
const GROUP: usize = 1 << 22;
/// Pixels summed before the next kernel places are turned to, so that a block of gradients stays in the first cache.
const PIXELS: usize = 512;
/// Kernel places of all input channels that one task sums.
const PLACES: usize = 256;

/// The gradient of the weight `[outputs, inputs, side, side]`, from `input` `[pictures, inputs, height, width]` and `grad`, the
/// gradient of the output.
///
/// # Errors
/// [`Error::Length`]; [`Error::Empty`] where the kernel does not fit into the picture.
pub(crate) fn weight(
    kernel: Proven,
    shape: &ConvShape,
    input: &[f32],
    grad: &[f32],
    batch: Batch,
) -> Result<Vec<f32>, Error> {
    let batch = batch.seen_by(shape);
    let (rows, columns) = batch.output(shape)?;
    let (picture, positions) = (shape.inputs * batch.height * batch.width, rows * columns);
    length("input", batch.pictures * picture, input.len())?;
    let expected = batch.pictures * shape.outputs * positions;
    length("gradient", expected, grad.len())?;

    let places = shape.inputs * shape.side * shape.side;
    let mut result = vec![0.0; shape.outputs * places];
    let group = (GROUP / (picture + shape.outputs * positions)).max(1);
    let inputs = input.chunks(group * picture);
    for (input, grad) in inputs.zip(grad.chunks(group * shape.outputs * positions)) {
        let planes: Vec<_> = input
            .par_chunks(picture)
            .map(|input| {
                let input = Input::new(input, batch.height, batch.width);
                Planes::new(kernel, shape, input, columns)
            })
            .collect();
        let wide = columns.next_multiple_of(LANES);
        let grad = widen(grad, columns, wide);
        let Some(first) = planes.first() else { break };
        let taps = first.taps(shape.side);
        let offsets: Vec<usize> = (0..shape.inputs)
            .flat_map(|input| taps.iter().map(move |tap| input * first.plane + tap))
            .collect();
        let tasks: Vec<(usize, &[usize])> = (0..shape.outputs)
            .step_by(BLOCK)
            .flat_map(|output| offsets.chunks(PLACES).map(move |taps| (output, taps)))
            .collect();
        let sums: Vec<Vec<[f32; BLOCK]>> = tasks
            .par_iter()
            .map(|&(first, taps)| {
                kernel.run(Sums {
                    planes: &planes,
                    step: shape.stride * planes[0].row,
                    grad: &grad,
                    outputs: shape.outputs,
                    first,
                    rows,
                    wide,
                    taps,
                })
            })
            .collect();
        let per_output = offsets.len().div_ceil(PLACES);
        for (task, sums) in sums.iter().enumerate() {
            let (first, place) = (task / per_output * BLOCK, task % per_output * PLACES);
            for (place, sums) in (place..).zip(sums) {
                for (output, sum) in (first..shape.outputs).zip(sums) {
                    result[output * places + place] += sum;
                }
            }
        }
    }
    Ok(result)
}

/// Rows of `columns` numbers as rows of `wide`, zeros behind.
fn widen(values: &[f32], columns: usize, wide: usize) -> Cow<'_, [f32]> {
    if columns == wide {
        return Cow::Borrowed(values);
    }
    let mut rows = vec![0.0; values.len() / columns * wide];
    rows.par_chunks_mut(wide)
        .zip(values.par_chunks(columns))
        .with_min_len(256)
        .for_each(|(to, from)| to[..columns].copy_from_slice(from));
    Cow::Owned(rows)
}

/// The sums of one block of output channels with some kernel places.
struct Sums<'a> {
    planes: &'a [Planes<'a>],
    /// Values from an output row's first input to that of the next.
    step: usize,
    /// `[pictures, outputs, rows, wide]`
    grad: &'a [f32],
    outputs: usize,
    /// The block's first output channel.
    first: usize,
    rows: usize,
    wide: usize,
    /// Where each kernel place of each input channel starts in a picture.
    taps: &'a [usize],
}

impl Job for Sums<'_> {
    /// For each tap, the block's sums.
    type Output = Vec<[f32; BLOCK]>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Self::Output {
        if L::MANY_REGISTERS {
            self.all::<L, 8, 3>(lanes)
        } else {
            self.all::<L, 2, 2>(lanes)
        }
    }
}

impl Sums<'_> {
    /// `O` output channels and `T` taps at a time.
    #[inline(always)]
    fn all<L: Lanes, const O: usize, const T: usize>(&self, lanes: L) -> Vec<[f32; BLOCK]> {
        let mut sums = vec![[Row([0.0; LANES]); BLOCK]; self.taps.len()];
        let (rows, columns) = (
            (PIXELS / self.wide).clamp(1, self.rows),
            self.wide.min(PIXELS),
        );
        for picture in 0..self.planes.len() {
            for y in (0..self.rows).step_by(rows) {
                let rows = y..self.rows.min(y + rows);
                for x in (0..self.wide).step_by(columns) {
                    let columns = x..self.wide.min(x + columns);
                    for (taps, sums) in self.taps.chunks(T).zip(sums.chunks_mut(T)) {
                        for o in (0..BLOCK.min(self.outputs - self.first)).step_by(O) {
                            self.tile::<L, O, T>(
                                lanes,
                                picture,
                                (rows.clone(), columns.clone()),
                                taps,
                                o,
                                sums,
                            );
                        }
                    }
                }
            }
        }
        sums.iter().map(|sums| sums.map(total)).collect()
    }

    #[inline(always)]
    fn tile<L: Lanes, const O: usize, const T: usize>(
        &self,
        lanes: L,
        picture: usize,
        (rows, columns): (std::ops::Range<usize>, std::ops::Range<usize>),
        taps: &[usize],
        o: usize,
        to: &mut [[Row; BLOCK]],
    ) {
        // Outputs and taps that are not there repeat the last; their sums go nowhere.
        let outputs: [usize; O] = std::array::from_fn(|i| {
            let output = (self.first + o + i).min(self.outputs - 1);
            (picture * self.outputs + output) * self.rows
        });
        let taps: [usize; T] = std::array::from_fn(|t| taps[t.min(taps.len() - 1)]);
        let mut sums = [[lanes.splat(0.0); T]; O];
        for (t, to) in to.iter().enumerate() {
            for i in 0..O {
                sums[i][t] = lanes.load(&to[o + i]);
            }
        }
        let values = &self.planes[picture].values;
        let count = columns.len() / LANES;
        for y in rows {
            let at = y * self.step + columns.start;
            let x: [&[[f32; LANES]]; T] =
                std::array::from_fn(|t| &values[at + taps[t]..].as_chunks().0[..count]);
            let g: [&[[f32; LANES]]; O] = std::array::from_fn(|i| {
                let at = (outputs[i] + y) * self.wide + columns.start;
                &self.grad[at..].as_chunks().0[..count]
            });
            for at in 0..count {
                let x: [L::V; T] = std::array::from_fn(|t| lanes.load_from(&x[t][at]));
                for i in 0..O {
                    let g = lanes.load_from(&g[i][at]);
                    for t in 0..T {
                        sums[i][t] = lanes.mul_add(x[t], g, sums[i][t]);
                    }
                }
            }
        }
        for (t, to) in to.iter_mut().enumerate() {
            for i in 0..O {
                to[o + i] = lanes.store(sums[i][t]);
            }
        }
    }
}

/// The lanes' sum, in pairs.
fn total(row: Row) -> f32 {
    let mut lanes = row.0;
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}
