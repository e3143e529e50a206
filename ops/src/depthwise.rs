//! Convolution of each channel by itself on the CPU, forward and backward.
//!
//! A channel's plane is laid out with its zeros around it and its columns sorted by their remainder modulo the stride, so that the inputs of
//! neighbouring outputs lie side by side. Every plane is one job: results depend on nothing else.

use rayon::prelude::*;

use crate::conv::length;
use crate::lanes::{Job, LANES, Lanes, Proven};
use crate::{ConvShape, Error};

/// A square kernel laid on planes of one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depthwise {
    side: usize,
    stride: usize,
    /// Rows and columns of zeros before and after.
    padding: (usize, usize),
    height: usize,
    width: usize,
    rows: usize,
    columns: usize,
    kernel: Proven,
}

impl Depthwise {
    /// For planes of `height` x `width`; of `shape`, channels do not matter.
    pub(crate) fn new(shape: &ConvShape, height: usize, width: usize) -> Result<Self, Error> {
        if shape.side == 0 || shape.stride == 0 || height == 0 || width == 0 {
            return Err(Error::Empty { what: "window" });
        }
        let (Some(rows), Some(columns)) = (shape.output(height), shape.output(width)) else {
            return Err(Error::Empty { what: "output" });
        };
        Ok(Self {
            side: shape.side,
            stride: shape.stride,
            padding: shape.padding,
            height,
            width,
            rows,
            columns,
            kernel: Proven::best(),
        })
    }

    /// Rows and columns of the result.
    pub(crate) fn output(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Convolves planes `[batch, channels, height, width]` with `weight` `[channels, side, side]` and `bias` `[channels]`, if any.
    pub(crate) fn run(
        &self,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Vec<f32>, Error> {
        let channels = self.channels(input, weight)?;
        if let Some(bias) = bias {
            length("bias", channels, bias.len())?;
        }
        let planes = input.len() / (self.height * self.width);
        let mut output = vec![0.0; planes * self.rows * self.columns];
        let taps = self.taps();
        output
            .par_chunks_mut(self.rows * self.columns)
            .zip(input.par_chunks(self.height * self.width))
            .enumerate()
            .for_each_init(
                || self.laid(),
                |laid, (index, (output, input))| {
                    self.lay(input, laid);
                    let channel = index % channels;
                    self.kernel.run(Forward {
                        shape: self,
                        taps: &taps,
                        laid,
                        weight: self.of_channel(weight, channel),
                        bias: bias.map_or(0.0, |bias| bias[channel]),
                        output,
                    });
                },
            );
        Ok(output)
    }

    /// The gradient at the input, from that at the result.
    pub(crate) fn input_gradient(
        &self,
        gradient: &[f32],
        weight: &[f32],
    ) -> Result<Vec<f32>, Error> {
        let taps = self.taps();
        let channels = weight.len() / taps.len();
        let planes = gradient.len() / (self.rows * self.columns);
        let mut output = vec![0.0; planes * self.height * self.width];
        self.channels(&output, weight)?;
        output
            .par_chunks_mut(self.height * self.width)
            .zip(gradient.par_chunks(self.rows * self.columns))
            .enumerate()
            .for_each_init(
                || self.laid(),
                |laid, (index, (output, gradient))| {
                    laid.fill(0.0);
                    self.kernel.run(Scatter {
                        shape: self,
                        taps: &taps,
                        gradient,
                        weight: self.of_channel(weight, index % channels),
                        laid,
                    });
                    self.gather(laid, output);
                },
            );
        Ok(output)
    }

    /// The gradients at weight `[channels, side, side]` and bias `[channels]`.
    pub(crate) fn parameter_gradients(
        &self,
        input: &[f32],
        gradient: &[f32],
        channels: usize,
    ) -> (Vec<f32>, Vec<f32>) {
        let taps = self.taps();
        let planes: Vec<Vec<f64>> = input
            .par_chunks(self.height * self.width)
            .zip(gradient.par_chunks(self.rows * self.columns))
            .map_init(
                || self.laid(),
                |laid, (input, gradient)| {
                    self.lay(input, laid);
                    self.kernel.run(Products {
                        shape: self,
                        taps: &taps,
                        laid,
                        gradient,
                    })
                },
            )
            .collect();
        // Picture by picture, in their order.
        let mut totals = vec![vec![0.0; taps.len() + 1]; channels];
        for (index, plane) in planes.iter().enumerate() {
            for (total, sum) in totals[index % channels].iter_mut().zip(plane) {
                *total += sum;
            }
        }
        let weight = totals.iter().flat_map(|t| &t[..taps.len()]);
        let bias = totals.iter().map(|t| t[taps.len()] as f32);
        (weight.map(|&sum| sum as f32).collect(), bias.collect())
    }

    /// The number of channels, of planes and weights that fit.
    fn channels(&self, input: &[f32], weight: &[f32]) -> Result<usize, Error> {
        let taps = self.side * self.side;
        if weight.is_empty() || input.is_empty() {
            return Err(Error::Empty { what: "channels" });
        }
        length("weight", weight.len().next_multiple_of(taps), weight.len())?;
        let channels = weight.len() / taps;
        let picture = channels * self.height * self.width;
        length("input", input.len().next_multiple_of(picture), input.len())?;
        Ok(channels)
    }

    fn of_channel<'a>(&self, weight: &'a [f32], channel: usize) -> &'a [f32] {
        let taps = self.side * self.side;
        &weight[channel * taps..][..taps]
    }

    /// Values of a laid-out row of one remainder: whole vectors and the reach of the kernel.
    fn part(&self) -> usize {
        self.columns.next_multiple_of(LANES) + (self.side - 1) / self.stride
    }

    /// Room for a plane.
    fn laid(&self) -> Vec<f32> {
        let padded = self.height + self.padding.0 + self.padding.1;
        vec![0.0; padded * self.stride * self.part()]
    }

    /// Where each kernel row and column starts in a laid-out plane, from the place of the output.
    fn taps(&self) -> Vec<usize> {
        let part = self.part();
        let column = |kx: usize| kx % self.stride * part + kx / self.stride;
        let row = |ky: usize| ky * self.stride * part;
        (0..self.side * self.side)
            .map(|tap| row(tap / self.side) + column(tap % self.side))
            .collect()
    }

    /// For each remainder: where its columns lie in a laid-out row, and the first of them in the plane's.
    fn columns_of_remainders(&self) -> impl Iterator<Item = (std::ops::Range<usize>, usize)> {
        let (part, stride, before) = (self.part(), self.stride, self.padding.0);
        (0..stride).map(move |remainder| {
            let first = before.saturating_sub(remainder).div_ceil(stride).min(part);
            let column = (first * stride + remainder).saturating_sub(before);
            (remainder * part + first..(remainder + 1) * part, column)
        })
    }

    /// A laid-out row for each row of a plane.
    fn laid_rows(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let row = self.stride * self.part();
        let first = self.padding.0;
        (first..first + self.height).map(move |y| y * row..(y + 1) * row)
    }

    /// Lays out a plane. The zeros around it stay as they are.
    fn lay(&self, plane: &[f32], laid: &mut [f32]) {
        for (line, row) in plane.chunks_exact(self.width).zip(self.laid_rows()) {
            let row = &mut laid[row];
            for (places, first) in self.columns_of_remainders() {
                let line = &line[first.min(line.len())..];
                let to = &mut row[places];
                if self.stride == 1 {
                    let count = line.len().min(to.len());
                    to[..count].copy_from_slice(&line[..count]);
                    continue;
                }
                for (to, values) in to.iter_mut().zip(line.chunks(self.stride)) {
                    *to = values[0];
                }
            }
        }
    }

    /// Takes a plane out of its layout. Columns that have no place in it get 0.
    fn gather(&self, laid: &[f32], plane: &mut [f32]) {
        for (line, row) in plane.chunks_exact_mut(self.width).zip(self.laid_rows()) {
            let row = &laid[row];
            line.fill(0.0);
            for (places, first) in self.columns_of_remainders() {
                let to = &mut line[first.min(self.width)..];
                let values = &row[places];
                if self.stride == 1 {
                    let count = to.len().min(values.len());
                    to[..count].copy_from_slice(&values[..count]);
                    continue;
                }
                for (to, &value) in to.chunks_mut(self.stride).zip(values) {
                    to[0] = value;
                }
            }
        }
    }
}

/// One plane of the result.
struct Forward<'a> {
    shape: &'a Depthwise,
    taps: &'a [usize],
    laid: &'a [f32],
    weight: &'a [f32],
    bias: f32,
    output: &'a mut [f32],
}

impl Job for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let step = self.shape.stride * self.shape.stride * self.shape.part();
        let lines = self.output.chunks_exact_mut(self.shape.columns);
        for (y, line) in lines.enumerate() {
            for (x, to) in line.chunks_mut(LANES).enumerate() {
                let at = &self.laid[y * step + x * LANES..];
                let mut sum = lanes.splat(self.bias);
                for (&tap, &weight) in self.taps.iter().zip(self.weight) {
                    if let Ok(values) = at[tap..tap + LANES].try_into() {
                        sum = lanes.mul_add(lanes.load_from(values), lanes.splat(weight), sum);
                    }
                }
                to.copy_from_slice(&lanes.store(sum).0[..to.len()]);
            }
        }
    }
}

/// One plane's gradient, each number times the weights added where the weights were laid.
struct Scatter<'a> {
    shape: &'a Depthwise,
    taps: &'a [usize],
    gradient: &'a [f32],
    weight: &'a [f32],
    laid: &'a mut [f32],
}

impl Job for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let step = self.shape.stride * self.shape.stride * self.shape.part();
        let lines = self.gradient.chunks_exact(self.shape.columns);
        for (y, line) in lines.enumerate() {
            for (&tap, &weight) in self.taps.iter().zip(self.weight) {
                let sums = &mut self.laid[y * step + tap..][..line.len()];
                for (sum, &g) in sums.iter_mut().zip(line) {
                    *sum = g.mul_add(weight, *sum);
                }
            }
        }
    }
}

/// For each tap the sum over one plane of gradient times input, then the sum of the gradient.
struct Products<'a> {
    shape: &'a Depthwise,
    taps: &'a [usize],
    laid: &'a [f32],
    gradient: &'a [f32],
}

impl Job for Products<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Vec<f64> {
        let step = self.shape.stride * self.shape.stride * self.shape.part();
        let lines = || self.gradient.chunks_exact(self.shape.columns).enumerate();
        let at_tap = |&tap: &usize| {
            let products = lines().map(|(y, line)| {
                let values = &self.laid[y * step + tap..][..line.len()];
                f64::from(sum_of(line, |i, g| g * values[i]))
            });
            products.sum()
        };
        let mut sums: Vec<f64> = self.taps.iter().map(at_tap).collect();
        sums.push(
            lines()
                .map(|(_, line)| f64::from(sum_of(line, |_, g| g)))
                .sum(),
        );
        sums
    }
}

/// The sum of `f(place, value)` over a row, in an order that depends on its length alone.
#[inline(always)]
fn sum_of(line: &[f32], f: impl Fn(usize, f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    for (c, chunk) in line.chunks(LANES).enumerate() {
        for (i, (sum, &value)) in sums.iter_mut().zip(chunk).enumerate() {
            *sum += f(c * LANES + i, value);
        }
    }
    sums.iter().sum()
}
