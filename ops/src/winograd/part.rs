//! A part of the picture: its tiles' inputs transformed, multiplied and transformed back.

use super::transform::{self, PLACES, REACH, STEP};
use crate::conv::BLOCK;
use crate::lanes::{Job, LANES, Lanes, Row};

/// Vectors of tiles multiplied together.
const WIDE: usize = 2;

/// What a thread holds, handed on from part to part.
#[derive(Default)]
pub(super) struct Scratch {
    /// A row of a channel with its zeros.
    line: Vec<f32>,
    /// Rows of a channel, the columns of each sorted by their remainder modulo [`STEP`].
    sorted: Vec<f32>,
    /// Transformed inputs, `[PLACES][inputs][tiles]`.
    transformed: Vec<f32>,
    /// Products, `[PLACES][BLOCK][WIDE]`.
    products: Vec<Row>,
}

/// Tiles from row `top` and column `left` of tiles on, as many rows as `output` has, and some blocks of outputs.
pub(super) struct Part<'a, 'b> {
    pub(super) inputs: usize,
    /// Rows and columns of zeros before the picture.
    pub(super) before: usize,
    /// `[inputs, height, width]`.
    pub(super) input: &'a [f32],
    pub(super) size: (usize, usize),
    pub(super) top: usize,
    pub(super) left: usize,
    /// Tiles side by side.
    pub(super) across: usize,
    /// Of the whole output.
    pub(super) columns: usize,
    /// For each block of outputs: for each place, for each input, the block's weights.
    pub(super) weights: &'a [[f32; BLOCK]],
    pub(super) bias: &'a [[f32; BLOCK]],
    /// Channels, each `[rows, columns]`, the first row that of tile row `top`.
    pub(super) output: &'a mut [&'b mut [f32]],
    pub(super) scratch: &'a mut Scratch,
}

impl Job for Part<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let Some(rows) = self.output.first().map(|o| o.len() / self.columns) else {
            return;
        };
        let down = rows.div_ceil(STEP);
        let tiles = down * self.across;
        // A vector stored behind the last whole one needs room.
        let pitch = tiles.next_multiple_of(LANES) + LANES;
        self.transform(lanes, down, pitch);
        for first in (0..self.output.len()).step_by(BLOCK) {
            let mut at = 0;
            while at < tiles {
                let wide = if tiles - at > LANES { WIDE } else { 1 };
                let block = first / BLOCK;
                if !L::MANY_REGISTERS {
                    self.multiply::<L, 4, 1>(lanes, block, pitch, at, wide);
                } else if wide == WIDE {
                    self.multiply::<L, BLOCK, WIDE>(lanes, block, pitch, at, wide);
                } else {
                    self.multiply::<L, BLOCK, 1>(lanes, block, pitch, at, wide);
                }
                for (o, channel) in self.output[first..].iter_mut().take(BLOCK).enumerate() {
                    let bias = self.bias[block][o];
                    for half in 0..wide {
                        let products = &self.scratch.products[o * WIDE + half..];
                        let values = back(lanes, products, bias);
                        let from = at + half * LANES;
                        let to = Tiles {
                            across: self.across,
                            left: self.left,
                            columns: self.columns,
                            count: tiles,
                        };
                        to.write(&values, from, channel);
                    }
                }
                at += wide * LANES;
            }
        }
    }
}

impl Part<'_, '_> {
    /// Fills `transformed`.
    #[inline(always)]
    fn transform<L: Lanes>(&mut self, lanes: L, down: usize, pitch: usize) {
        let (height, width) = self.size;
        let Scratch {
            line,
            sorted,
            transformed,
            products,
        } = &mut *self.scratch;
        // A tile reaches one column of the next one. A vector of tiles may reach farther: what it finds there, no output is made of.
        let share = self.across + 1;
        line.resize(STEP * share, 0.0);
        let lines = (down * STEP + 2) * STEP * share;
        sorted.resize(lines + LANES, 0.0);
        transformed.resize(PLACES * self.inputs * pitch, 0.0);
        products.resize(PLACES * BLOCK * WIDE, Row([0.0; LANES]));
        // Of the picture's columns those from `skipped` on, at `first` of a line.
        let start = self.left * STEP;
        let first = self.before.saturating_sub(start).min(line.len());
        let skipped = start.saturating_sub(self.before).min(width);
        let count = (width - skipped).min(line.len() - first);
        line.fill(0.0);
        let channels = self.input.chunks_exact(height * width);
        for (channel, plane) in channels.enumerate() {
            let of_rows = sorted[..lines].chunks_exact_mut(STEP * share);
            for (y, sorted) in of_rows.enumerate() {
                let y = (self.top * STEP + y).checked_sub(self.before);
                let Some(y) = y.filter(|&y| y < height) else {
                    sorted.fill(0.0);
                    continue;
                };
                line[first..first + count].copy_from_slice(&plane[y * width + skipped..][..count]);
                sort(line, sorted);
            }
            for row in 0..down {
                let rows = &sorted[row * STEP * STEP * share..];
                for column in (0..self.across).step_by(LANES) {
                    let values = forth(lanes, rows, share, column);
                    let at = row * self.across + column;
                    let places = transformed.chunks_exact_mut(self.inputs * pitch);
                    for (to, value) in places.zip(values.as_flattened()) {
                        to[channel * pitch + at..][..LANES].copy_from_slice(&lanes.store(*value).0);
                    }
                }
            }
        }
    }

    /// Fills `products` of a block of outputs, for `wide` vectors of tiles from tile `at` on; `O` outputs and `T` vectors at a time.
    #[inline(always)]
    fn multiply<L: Lanes, const O: usize, const T: usize>(
        &mut self,
        lanes: L,
        block: usize,
        pitch: usize,
        at: usize,
        wide: usize,
    ) {
        let Scratch {
            transformed,
            products,
            ..
        } = &mut *self.scratch;
        let weights = &self.weights[block * PLACES * self.inputs..];
        let places = transformed
            .chunks_exact(self.inputs * pitch)
            .zip(weights.chunks_exact(self.inputs));
        for ((values, weights), products) in places.zip(products.chunks_exact_mut(BLOCK * WIDE)) {
            for first in (0..BLOCK).step_by(O) {
                for half in (0..wide).step_by(T) {
                    let mut sums = [[lanes.splat(0.0); T]; O];
                    let at = at + half * LANES;
                    for (values, weights) in values.chunks_exact(pitch).zip(weights) {
                        let mut x = [lanes.splat(0.0); T];
                        let vectors = values[at..at + T * LANES].as_chunks::<LANES>().0;
                        for (x, values) in x.iter_mut().zip(vectors) {
                            *x = lanes.load_from(values);
                        }
                        for (o, sums) in sums.iter_mut().enumerate() {
                            let weight = lanes.splat(weights[first + o]);
                            for (sum, x) in sums.iter_mut().zip(x) {
                                *sum = lanes.mul_add(x, weight, *sum);
                            }
                        }
                    }
                    for (o, sums) in sums.into_iter().enumerate() {
                        for (t, sum) in sums.into_iter().enumerate() {
                            products[(first + o) * WIDE + half + t] = lanes.store(sum);
                        }
                    }
                }
            }
        }
    }
}

/// Sorts the columns of a line by their remainder.
#[inline(always)]
fn sort(line: &[f32], sorted: &mut [f32]) {
    let share = sorted.len() / STEP;
    let (a, rest) = sorted.split_at_mut(share);
    let (b, rest) = rest.split_at_mut(share);
    let (c, d) = rest.split_at_mut(share);
    let targets = a.iter_mut().zip(b).zip(c.iter_mut().zip(d));
    for (quad, ((a, b), (c, d))) in line.as_chunks::<STEP>().0.iter().zip(targets) {
        [*a, *b, *c, *d] = *quad;
    }
}

/// B' d B of sixteen tiles, from tile `column` of rows of sorted columns on.
#[inline(always)]
fn forth<L: Lanes>(lanes: L, rows: &[f32], share: usize, column: usize) -> [[L::V; REACH]; REACH] {
    let zero = lanes.splat(0.0);
    let mut half = [[zero; REACH]; REACH];
    for (y, half) in half.iter_mut().enumerate() {
        let row = &rows[y * STEP * share..];
        let mut d = [zero; REACH];
        for (x, d) in d.iter_mut().enumerate() {
            let at = x % STEP * share + column + x / STEP;
            if let Some(values) = row[at..].first_chunk() {
                *d = lanes.load_from(values);
            }
        }
        *half = transform::input(lanes, d);
    }
    let mut whole = [[zero; REACH]; REACH];
    for x in 0..REACH {
        let mut d = [zero; REACH];
        for (d, row) in d.iter_mut().zip(&half) {
            *d = row[x];
        }
        for (row, value) in whole.iter_mut().zip(transform::input(lanes, d)) {
            row[x] = value;
        }
    }
    whole
}

/// A' m A and the bias, of sixteen tiles whose products at the places are `BLOCK * WIDE` apart.
#[inline(always)]
fn back<L: Lanes>(lanes: L, products: &[Row], bias: f32) -> [[Row; STEP]; STEP] {
    let zero = lanes.splat(0.0);
    let mut half = [[zero; REACH]; STEP];
    for x in 0..REACH {
        let mut m = [zero; REACH];
        for (y, m) in m.iter_mut().enumerate() {
            *m = lanes.load(&products[(y * REACH + x) * BLOCK * WIDE]);
        }
        for (row, value) in half.iter_mut().zip(transform::output(lanes, m)) {
            row[x] = value;
        }
    }
    let bias = lanes.splat(bias);
    let mut whole = [[Row([0.0; LANES]); STEP]; STEP];
    for (whole, half) in whole.iter_mut().zip(half) {
        for (to, value) in whole.iter_mut().zip(transform::output(lanes, half)) {
            *to = lanes.store(lanes.add(value, bias));
        }
    }
    whole
}

/// Where tiles lie in a channel of the output.
struct Tiles {
    across: usize,
    left: usize,
    columns: usize,
    count: usize,
}

impl Tiles {
    /// Writes the outputs of sixteen tiles, the first of them number `from` of the part; of tiles and rows that are not there, none.
    #[inline(always)]
    fn write(&self, values: &[[Row; STEP]; STEP], from: usize, channel: &mut [f32]) {
        let to = (from + LANES).min(self.count);
        for (y, values) in values.iter().enumerate() {
            let mut line = [0.0; STEP * LANES];
            for (lane, quad) in line.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
                *quad = [
                    values[0].0[lane],
                    values[1].0[lane],
                    values[2].0[lane],
                    values[3].0[lane],
                ];
            }
            let mut tile = from;
            while tile < to {
                let (row, column) = (tile / self.across, tile % self.across);
                let run = (self.across - column).min(to - tile);
                let x = (self.left + column) * STEP;
                let count = (run * STEP).min(self.columns - x);
                let at = (row * STEP + y) * self.columns + x;
                if let Some(row) = channel.get_mut(at..at + count) {
                    row.copy_from_slice(&line[(tile - from) * STEP..][..count]);
                }
                tile += run;
            }
        }
    }
}
