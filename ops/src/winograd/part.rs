//! A part of the picture: its tiles' inputs transformed, multiplied and transformed back.

use super::transform::{self, PLACES, REACH, STEP};
use crate::conv::BLOCK;
use crate::lanes::{Job, LANES, Lanes, Row};
use crate::{Input, Store};

/// Rows that a place's vectors of so many channels take: one more than they are, so that places do not all fall into the same sets of the
/// caches.
const fn plane(vectors: usize, channels: usize) -> usize {
    vectors * channels + 1
}

/// What a thread holds, handed on from part to part. Buffers grow and are not cleared: every number that is used is written before.
#[derive(Default)]
pub(super) struct Scratch {
    /// A row of a channel with its zeros.
    line: Vec<f32>,
    /// Rows of a channel, the columns of each sorted by their remainder modulo [`STEP`].
    sorted: Vec<f32>,
    /// Of each channel, the rows of `sorted` that the part below reads too.
    kept: Vec<f32>,
    /// Transformed inputs, `[PLACES][vectors of tiles][inputs]`.
    transformed: Vec<Row>,
    /// Their products with the weights, `[PLACES][vectors of tiles][outputs]`.
    products: Vec<Row>,
    half: Half,
}

/// Rows that a part reads and the part below it too.
const SHARED: usize = REACH - STEP;

/// Tiles from row `top` and from column `left` of tiles on, `down` rows of `across` tiles, and some blocks of outputs.
pub(super) struct Part<'a, 'b> {
    pub(super) inputs: usize,
    /// Rows and columns of zeros before the picture.
    pub(super) before: usize,
    pub(super) input: Input<'a>,
    /// A row of the output.
    pub(super) top: usize,
    /// Whether the part before was the one above, and left what both read.
    pub(super) below: bool,
    pub(super) left: usize,
    pub(super) across: usize,
    pub(super) down: usize,
    /// Of the whole output.
    pub(super) columns: usize,
    /// For each block of outputs: for each place, for each input, the block's weights.
    pub(super) weights: &'a [[f32; BLOCK]],
    pub(super) bias: &'a [[f32; BLOCK]],
    /// Channels, each `[rows, columns]`.
    pub(super) output: &'a mut [&'b mut [f32]],
    /// Rows of `output` above this part.
    pub(super) skipped: usize,
    pub(super) store: Store,
    pub(super) scratch: &'a mut Scratch,
}

impl Job for Part<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let tiles = self.down * self.across;
        let vectors = tiles.div_ceil(LANES);
        self.transform(lanes, vectors);
        if L::MANY_REGISTERS {
            self.multiply::<L, BLOCK, 2>(lanes, vectors);
        } else {
            self.multiply::<L, 4, 1>(lanes, vectors);
        }
        let to = Tiles {
            across: self.across,
            left: self.left,
            columns: self.columns,
            count: tiles,
            store: self.store,
        };
        let outputs = self.bias_blocks() * BLOCK;
        let place = plane(vectors, outputs);
        for (o, channel) in self.output.iter_mut().enumerate() {
            let channel = &mut channel[self.skipped * self.columns..];
            let bias = lanes.splat(self.bias[o / BLOCK][o % BLOCK]);
            for vector in 0..vectors {
                let products = &self.scratch.products[vector * outputs + o..];
                columns_back(lanes, products, place, &mut self.scratch.half);
                for y in 0..STEP {
                    let mut whole = row_back(lanes, &self.scratch.half, y);
                    for value in &mut whole {
                        *value = lanes.add(*value, bias);
                    }
                    to.write(&lanes.quadruples(whole), y, vector * LANES, channel);
                }
            }
        }
    }
}

impl Part<'_, '_> {
    fn bias_blocks(&self) -> usize {
        self.output.len().div_ceil(BLOCK)
    }

    /// Fills `transformed`.
    #[inline(always)]
    fn transform<L: Lanes>(&mut self, lanes: L, vectors: usize) {
        let (height, width) = (self.input.height(), self.input.width());
        let Scratch {
            line,
            sorted,
            kept,
            transformed,
            half,
            ..
        } = &mut *self.scratch;
        // A tile reaches one column of the next one. A vector of tiles may reach farther: what it finds there, no output is made of.
        let share = self.across + 1;
        line.resize(STEP * share, 0.0);
        let lines = (self.down * STEP + SHARED) * STEP * share;
        let shared = SHARED * STEP * share;
        grow(sorted, lines + LANES, 0.0);
        grow(kept, self.inputs * shared, 0.0);
        let place = plane(vectors, self.inputs);
        grow(transformed, PLACES * place, Row([0.0; LANES]));
        // Of the picture's columns those from `skipped` on, at `first` of a line.
        let start = self.left * STEP;
        let first = self.before.saturating_sub(start).min(line.len());
        let skipped = start.saturating_sub(self.before).min(width);
        let count = (width - skipped).min(line.len() - first);
        line.fill(0.0);
        for channel in 0..self.inputs {
            let kept = &mut kept[channel * shared..][..shared];
            if self.below {
                sorted[..shared].copy_from_slice(kept);
            }
            let there = if self.below { SHARED } else { 0 };
            let of_rows = sorted[..lines].chunks_exact_mut(STEP * share);
            for (y, sorted) in of_rows.enumerate().skip(there) {
                let y = (self.top + y).checked_sub(self.before);
                let Some(y) = y.filter(|&y| y < height) else {
                    sorted.fill(0.0);
                    continue;
                };
                self.input
                    .read(channel, y, skipped, &mut line[first..first + count]);
                sort(line, sorted);
            }
            kept.copy_from_slice(&sorted[lines - shared..lines]);
            for row in 0..self.down {
                let rows = &sorted[row * STEP * STEP * share..];
                for column in (0..self.across).step_by(LANES) {
                    rows_forth(lanes, rows, share, column, half);
                    let at = row * self.across + column;
                    let to = Place {
                        vector: at / LANES * self.inputs + channel,
                        next: self.inputs,
                        lane: at % LANES,
                        count: LANES.min(self.across - column),
                    };
                    for x in 0..REACH {
                        for (y, value) in column_forth(lanes, half, x).into_iter().enumerate() {
                            let places = &mut transformed[(y * REACH + x) * place..][..place];
                            to.write(lanes.store(value), places);
                        }
                    }
                }
            }
        }
    }

    /// Fills `products`: at each place a matrix product, small enough for a core's own caches, `O` outputs and `T` vectors of tiles at a
    /// time.
    #[inline(always)]
    fn multiply<L: Lanes, const O: usize, const T: usize>(&mut self, lanes: L, vectors: usize) {
        let blocks = self.bias_blocks();
        let (inputs, outputs) = (self.inputs, blocks * BLOCK);
        let Scratch {
            transformed,
            products,
            ..
        } = &mut *self.scratch;
        let (of_inputs, of_outputs) = (plane(vectors, inputs), plane(vectors, outputs));
        grow(products, PLACES * of_outputs, Row([0.0; LANES]));
        let values = transformed.chunks_exact(of_inputs);
        let places = products.chunks_exact_mut(of_outputs).take(PLACES);
        for (at, (products, values)) in places.zip(values).enumerate() {
            for block in 0..blocks {
                let weights = &self.weights[(block * PLACES + at) * inputs..][..inputs];
                for first in (0..BLOCK).step_by(O) {
                    let output = block * BLOCK + first;
                    let mut vector = 0;
                    while vector + T <= vectors {
                        let values = &values[vector * inputs..];
                        let products = &mut products[vector * outputs + output..];
                        product::<L, O, T>(lanes, values, weights, first, products, outputs);
                        vector += T;
                    }
                    for vector in vector..vectors {
                        let values = &values[vector * inputs..];
                        let products = &mut products[vector * outputs + output..];
                        product::<L, O, 1>(lanes, values, weights, first, products, outputs);
                    }
                }
            }
        }
    }
}

/// Makes room for `len`; what was there stays.
fn grow<T: Clone>(buffer: &mut Vec<T>, len: usize, value: T) {
    if buffer.len() < len {
        buffer.resize(len, value);
    }
}

/// The products of `T` vectors of each input with the weights of `O` outputs from `first` on; the vectors of a product `outputs` apart.
#[inline(always)]
fn product<L: Lanes, const O: usize, const T: usize>(
    lanes: L,
    values: &[Row],
    weights: &[[f32; BLOCK]],
    first: usize,
    products: &mut [Row],
    outputs: usize,
) {
    let mut sums = [[lanes.splat(0.0); T]; O];
    let inputs = weights.len();
    let vectors: [&[Row]; T] = std::array::from_fn(|t| &values[t * inputs..][..inputs]);
    for (i, weights) in weights.iter().enumerate() {
        let mut x = [lanes.splat(0.0); T];
        for (x, vector) in x.iter_mut().zip(vectors) {
            *x = lanes.load(&vector[i]);
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
            products[t * outputs + o] = lanes.store(sum);
        }
    }
}

/// Where sixteen tiles of a row lie among the vectors of tiles.
struct Place {
    /// The vector of the first of them.
    vector: usize,
    /// From a vector to the next.
    next: usize,
    /// The first's place in its vector.
    lane: usize,
    /// How many of the sixteen there are.
    count: usize,
}

impl Place {
    #[inline(always)]
    fn write(&self, values: Row, vectors: &mut [Row]) {
        if self.lane == 0 {
            // Lanes behind the last tile are overwritten by those of the next row, or never used.
            vectors[self.vector] = values;
            return;
        }
        let here = self.count.min(LANES - self.lane);
        vectors[self.vector].0[self.lane..][..here].copy_from_slice(&values.0[..here]);
        if here < self.count {
            let rest = self.count - here;
            vectors[self.vector + self.next].0[..rest].copy_from_slice(&values.0[here..][..rest]);
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

/// A transform along one direction, before that along the other: more vectors than there are registers. In memory that is handed in, as
/// an array on the stack would be cleared and copied each time.
type Half = [[Row; REACH]; REACH];

/// B' d of sixteen tiles, from tile `column` of rows of sorted columns on.
#[inline(always)]
fn rows_forth<L: Lanes>(lanes: L, rows: &[f32], share: usize, column: usize, half: &mut Half) {
    for (y, half) in half.iter_mut().enumerate() {
        let row = &rows[y * STEP * share..];
        let mut d = [lanes.splat(0.0); REACH];
        for (x, d) in d.iter_mut().enumerate() {
            let at = x % STEP * share + column + x / STEP;
            if let Some(values) = row[at..].first_chunk() {
                *d = lanes.load_from(values);
            }
        }
        for (to, value) in half.iter_mut().zip(transform::input(lanes, d)) {
            *to = lanes.store(value);
        }
    }
}

/// Column `x` of B' d B.
#[inline(always)]
fn column_forth<L: Lanes>(lanes: L, half: &Half, x: usize) -> [L::V; REACH] {
    let mut d = [lanes.splat(0.0); REACH];
    for (d, row) in d.iter_mut().zip(half) {
        *d = lanes.load(&row[x]);
    }
    transform::input(lanes, d)
}

/// A' m of sixteen tiles whose products at the places are `place` apart.
#[inline(always)]
fn columns_back<L: Lanes>(lanes: L, products: &[Row], place: usize, half: &mut Half) {
    for x in 0..REACH {
        let mut m = [lanes.splat(0.0); REACH];
        for (y, m) in m.iter_mut().enumerate() {
            *m = lanes.load(&products[(y * REACH + x) * place]);
        }
        for (row, value) in half.iter_mut().zip(transform::output(lanes, m)) {
            row[x] = lanes.store(value);
        }
    }
}

/// Row `y` of A' m A.
#[inline(always)]
fn row_back<L: Lanes>(lanes: L, half: &Half, y: usize) -> [L::V; STEP] {
    let mut m = [lanes.splat(0.0); REACH];
    for (m, value) in m.iter_mut().zip(&half[y]) {
        *m = lanes.load(value);
    }
    transform::output(lanes, m)
}

/// Where tiles lie in a channel of the output.
struct Tiles {
    across: usize,
    left: usize,
    columns: usize,
    count: usize,
    store: Store,
}

impl Tiles {
    /// Writes row `y` of sixteen tiles, the first of them number `from` of the part; of tiles and rows that are not there, none.
    #[inline(always)]
    fn write(&self, rows: &[Row; STEP], y: usize, from: usize, channel: &mut [f32]) {
        let to = (from + LANES).min(self.count);
        let mut tile = from;
        while tile < to {
            let (row, column) = (tile / self.across, tile % self.across);
            let run = (self.across - column).min(to - tile);
            let x = (self.left + column) * STEP;
            let count = (run * STEP).min(self.columns - x);
            let at = (row * STEP + y) * self.columns + x;
            if let Some(channel) = channel.get_mut(at..at + count) {
                if let Some(channel) = channel.as_chunks_mut::<LANES>().0.first_chunk_mut::<STEP>()
                {
                    for (to, row) in channel.iter_mut().zip(rows) {
                        self.store.put(&row.0, to);
                    }
                    tile += run;
                    continue;
                }
                // Four lanes of the sixteen have their quadruples in one row.
                for (lane, to) in (tile - from..).zip(channel.chunks_mut(STEP)) {
                    let values = &rows[lane / STEP].0[lane % STEP * STEP..];
                    self.store.put(&values[..to.len()], to);
                }
            }
            tile += run;
        }
    }
}
