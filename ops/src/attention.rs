//! Self-attention on the CPU, as two products and a softmax; each number is computed in one order, on every processor.

use rayon::prelude::*;

use crate::conv::{Flat, length};
use crate::lanes::{Job, LANES, Lanes, Proven};
use crate::norm::exp;
use crate::{Conv2d, Error, Input, Kernel, Store};

/// Queries at a time.
const QUERIES: usize = 64;
/// Keys at a time: with 128 channels they, their values and the weights of all queries take 1.3 MB, which a core's own caches hold.
const KEYS: usize = 1024;

/// Logarithm of the least weight, beside a greatest of 1, that is not 0.
const LEAST: f32 = -60.0;

/// Attention with one head (Vaswani et al. 2017): `output[c, i] = sum over j of softmax_j(sum over c of q[c, i] k[c, j] / sqrt(channels))
/// v[c, j]`, each `[channels, positions]`; near [`plain::attention`](crate::plain::attention). Runs on rayon's current pool.
/// No more than two copies of each argument are held: the softmax is taken of some keys after the others (Milakov and Gimelshein 2018,
/// arXiv 1805.02867).
///
/// # Errors
/// [`Error::Length`], [`Error::Empty`].
pub fn attention(
    channels: usize,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    output: &mut [f32],
) -> Result<(), Error> {
    with(Proven::best(), channels, [q, k, v], output)
}

/// As [`attention`] with a given kernel.
///
/// # Errors
/// As [`attention`]; [`Error::Kernel`] when this processor cannot run it.
#[doc(hidden)]
pub fn attention_with_kernel(
    kernel: Kernel,
    channels: usize,
    qkv: [&[f32]; 3],
    output: &mut [f32],
) -> Result<(), Error> {
    let kernel = Proven::new(kernel).ok_or(Error::Kernel { got: kernel })?;
    with(kernel, channels, qkv, output)
}

fn with(
    kernel: Proven,
    channels: usize,
    [q, k, v]: [&[f32]; 3],
    output: &mut [f32],
) -> Result<(), Error> {
    if channels == 0 || q.is_empty() {
        return Err(Error::Empty { what: "queries" });
    }
    length("q", q.len().next_multiple_of(channels), q.len())?;
    length("k", q.len(), k.len())?;
    length("v", q.len(), v.len())?;
    length("output", q.len(), output.len())?;
    let positions = q.len() / channels;
    let values = transposed(v, channels);
    let keys = by_parts(k, channels);
    let parts: Vec<Part> = keys
        .chunks(KEYS * channels)
        .zip(values.chunks(KEYS * channels))
        .map(|(keys, values)| Part::new(kernel, channels, keys, values))
        .collect();
    let mut attended = vec![0.0; q.len()];
    attended
        .par_chunks_mut(QUERIES * channels)
        .enumerate()
        .for_each(|(at, attended)| {
            let queries = attended.len() / channels;
            let first = &q[at * QUERIES..];
            let queries = Conv2d::of_columns(kernel, channels, queries, first, positions);
            attend(kernel, channels, &queries, &parts, attended);
        });
    output.copy_from_slice(&transposed(&attended, positions));
    Ok(())
}

/// Some keys and their values, as what 1x1 convolutions are taken of: queries are the outputs of one of the keys, and again of one of the
/// values, channels as its columns.
struct Part<'a> {
    count: usize,
    keys: Flat<'a>,
    values: Flat<'a>,
}

impl<'a> Part<'a> {
    /// `keys` is `[channels, count]`, `values` `[count, channels]`.
    fn new(kernel: Proven, channels: usize, keys: &'a [f32], values: &'a [f32]) -> Self {
        let count = keys.len() / channels;
        Self {
            count,
            keys: Flat::new(kernel, channels, Input::new(keys, 1, count)),
            values: Flat::new(kernel, count, Input::new(values, 1, channels)),
        }
    }
}

/// What the queries that `queries` is packed of attend to, `[queries, channels]`.
fn attend(
    kernel: Proven,
    channels: usize,
    queries: &Conv2d,
    parts: &[Part<'_>],
    attended: &mut [f32],
) {
    let scale = (1.0 / (channels as f64).sqrt()) as f32;
    let count = attended.len() / channels;
    let mut states = vec![State::default(); count];
    let mut weights = vec![0.0; count * KEYS];
    for part in parts {
        let weights = &mut weights[..count * part.count];
        part.keys.convolve(queries, weights, Store::Over);
        let rows = weights.chunks_exact_mut(part.count);
        let attended_rows = attended.chunks_exact_mut(channels);
        for ((weights, attended), state) in rows.zip(attended_rows).zip(&mut states) {
            kernel.run(Softmax {
                weights,
                scale,
                state,
                attended,
            });
        }
        let weights = Conv2d::of_rows(kernel, part.count, count, weights);
        part.values.convolve(&weights, attended, Store::Added);
    }
    for (attended, state) in attended.chunks_exact_mut(channels).zip(states) {
        let factor = 1.0 / state.sum;
        for value in attended {
            *value *= factor;
        }
    }
}

/// `[channels, positions]` as parts of [`KEYS`] positions, each `[channels, count]`.
fn by_parts(values: &[f32], channels: usize) -> Vec<f32> {
    let positions = values.len() / channels;
    let mut result = Vec::with_capacity(values.len());
    for first in (0..positions).step_by(KEYS) {
        let count = KEYS.min(positions - first);
        for channel in values.chunks_exact(positions) {
            result.extend_from_slice(&channel[first..first + count]);
        }
    }
    result
}

/// `[channels, positions]` as `[positions, channels]`.
fn transposed(values: &[f32], channels: usize) -> Vec<f32> {
    let positions = values.len() / channels;
    let mut result = vec![0.0; values.len()];
    result
        .par_chunks_exact_mut(channels)
        .enumerate()
        .for_each(|(position, to)| {
            for (to, channel) in to.iter_mut().zip(values.chunks_exact(positions)) {
                *to = channel[position];
            }
        });
    result
}

/// What a query has met so far.
#[derive(Clone, Copy)]
struct State {
    /// The greatest product with a key.
    greatest: f32,
    /// Of all weights, each beside a weight of 1 for the greatest.
    sum: f32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            greatest: f32::NEG_INFINITY,
            sum: 0.0,
        }
    }
}

/// A query's products with some more keys become weights, exp(scale (w - greatest)); what it attended to so far is brought to the same
/// greatest.
struct Softmax<'a> {
    weights: &'a mut [f32],
    scale: f32,
    state: &'a mut State,
    attended: &'a mut [f32],
}

impl Job for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let mut greatest = [self.state.greatest; LANES];
        let (whole, rest) = self.weights.as_chunks_mut::<LANES>();
        for chunk in &*whole {
            raise(&mut greatest, chunk);
        }
        raise(&mut greatest, rest);
        let greatest = greatest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        if greatest == f32::NEG_INFINITY {
            // Beside what may come they are nothing; what is not a number stays so.
            for w in self.weights {
                *w = if w.is_nan() { *w } else { 0.0 };
            }
            return;
        }
        let mut sums = [0.0; LANES];
        for chunk in whole {
            exponentials(chunk, self.scale, greatest, &mut sums);
        }
        exponentials(rest, self.scale, greatest, &mut sums);
        let mut sum = sums.into_iter().sum::<f32>();
        if self.state.sum > 0.0 {
            let factor = weight(self.scale * (self.state.greatest - greatest));
            sum += self.state.sum * factor;
            for value in self.attended {
                *value *= factor;
            }
        }
        *self.state = State { greatest, sum };
    }
}

/// e to a power of at most 0. Far below what the others' rounding is, and near the numbers that processors are slow with, it is 0.
#[inline(always)]
fn weight(power: f32) -> f32 {
    if power < LEAST { 0.0 } else { exp(power) }
}

/// Raises each of `greatest` to the number beside it.
#[inline(always)]
fn raise(greatest: &mut [f32; LANES], numbers: &[f32]) {
    for (greatest, &w) in greatest.iter_mut().zip(numbers) {
        *greatest = if w > *greatest { w } else { *greatest };
    }
}

/// exp(scale (w - greatest)) in place of each w, added to `sums` lane by lane.
#[inline(always)]
fn exponentials(numbers: &mut [f32], scale: f32, greatest: f32, sums: &mut [f32; LANES]) {
    for (sum, w) in sums.iter_mut().zip(numbers) {
        *w = weight(scale * (*w - greatest));
        *sum += *w;
    }
}
