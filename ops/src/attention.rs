//! Self-attention on the CPU, as two products and a softmax; each number is computed in one order, on every processor.

use rayon::prelude::*;

use crate::conv::length;
use crate::lanes::{Job, LANES, Lanes, Proven};
use crate::norm::exp;
use crate::{Conv2d, Error, Input, Kernel, Store};

/// Queries at a time, as in the network's layers for training.
const QUERIES: usize = 1024;

/// Logarithm of the least weight, beside a greatest of 1, that is not 0.
const LEAST: f32 = -60.0;

/// Attention with one head (Vaswani et al. 2017): `output[c, i] = sum over j of softmax_j(sum over c of q[c, i] k[c, j] / sqrt(channels))
/// v[c, j]`, each `[channels, positions]`; near [`plain::attention`](crate::plain::attention). Runs on rayon's current pool and holds `2048 * positions` numbers.
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
    let scale = (1.0 / (channels as f64).sqrt()) as f32;
    let values = transposed(v, channels);
    let most = QUERIES.min(positions);
    let mut weights = vec![0.0; most * positions];
    let mut attended = vec![0.0; most * channels];
    for first in (0..positions).step_by(QUERIES) {
        let queries = QUERIES.min(positions - first);
        let weights = &mut weights[..queries * positions];
        let attended = &mut attended[..queries * channels];
        // Queries are the outputs of a 1x1 convolution of the keys, and again of one of the values, channels as its columns.
        Conv2d::of_columns(kernel, channels, queries, &q[first..], positions).run(
            Input::new(k, 1, positions),
            weights,
            Store::Over,
        )?;
        weights
            .par_chunks_exact_mut(positions)
            .for_each(|weights| kernel.run(Softmax { weights, scale }));
        Conv2d::of_rows(kernel, positions, queries, weights).run(
            Input::new(&values, 1, channels),
            attended,
            Store::Over,
        )?;
        output
            .par_chunks_exact_mut(positions)
            .enumerate()
            .for_each(|(channel, output)| {
                let attended = attended.chunks_exact(channels);
                for (to, from) in output[first..].iter_mut().zip(attended) {
                    *to = from[channel];
                }
            });
    }
    Ok(())
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

/// exp(scale (w - max)) over its sum.
struct Softmax<'a> {
    weights: &'a mut [f32],
    scale: f32,
}

impl Job for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { weights, scale } = self;
        let mut greatest = [f32::NEG_INFINITY; LANES];
        for chunk in weights.chunks(LANES) {
            for (greatest, &w) in greatest.iter_mut().zip(chunk) {
                *greatest = if w > *greatest { w } else { *greatest };
            }
        }
        let greatest = greatest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let mut sums = [0.0; LANES];
        for chunk in weights.chunks_mut(LANES) {
            for (sum, w) in sums.iter_mut().zip(chunk) {
                let below = scale * (*w - greatest);
                // Far below what the others' rounding is, and near the numbers that processors are slow with.
                *w = if below < LEAST { 0.0 } else { exp(below) };
                *sum += *w;
            }
        }
        let factor = 1.0 / sums.into_iter().sum::<f32>();
        for w in weights {
            *w *= factor;
        }
    }
}
