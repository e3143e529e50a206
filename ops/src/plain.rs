//! The definitions, written as plainly as possible. The fast versions are compared with these.

use crate::{ConvShape, Error, check, conv};

/// Squared distance of a query to an entry: the f32 sum over ascending `d` of `(query[d] - entry[d])^2`, each step one fused multiply-add, from 0.
///
/// The difference is rounded to f32 first; the square is added without rounding in between. Values that overflow give `+inf`.
#[must_use]
pub fn distance(query: &[f32], entry: &[f32]) -> f32 {
    query.iter().zip(entry).fold(0.0, |sum, (z, b)| {
        let difference = z - b;
        difference.mul_add(difference, sum)
    })
}

/// The id of the entry nearest to each query: the lowest index with the least [`distance`] (VQGAN-LC, arXiv 2406.11837, section 3: `argmin ||z - b'||`).
///
/// `table` is row-major `[n, dim]`, `queries` row-major `[m, dim]`, `ids` `[m]`. Takes `m * n * dim` steps on one thread.
///
/// # Errors
/// As [`NearestIndex::build`](crate::NearestIndex::build) and [`NearestIndex::search`](crate::NearestIndex::search).
pub fn nearest(table: &[f32], dim: usize, queries: &[f32], ids: &mut [u32]) -> Result<(), Error> {
    check::table(table, dim)?;
    check::queries(queries, dim)?;
    check::output("ids", queries.len() / dim, ids.len())?;
    for (query, id) in queries.chunks_exact(dim).zip(ids) {
        let mut least = f32::INFINITY;
        *id = 0;
        for (index, entry) in (0..).zip(table.chunks_exact(dim)) {
            let distance = distance(query, entry);
            if distance < least {
                least = distance;
                *id = index;
            }
        }
    }
    Ok(())
}

/// Cross-entropy of one row of logits with a smoothed target, as [`cross_entropy`](crate::cross_entropy) says, and its gradient; in f64.
///
/// `target` must be below the number of logits.
#[must_use]
pub fn cross_entropy(logits: &[f32], target: usize, smoothing: f64) -> (f64, Vec<f64>) {
    let logits: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
    let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - greatest).exp()).sum();
    let all = greatest + total.ln();
    let wanted = |i: usize| {
        let even = smoothing / logits.len() as f64;
        even + if i == target { 1.0 - smoothing } else { 0.0 }
    };
    let each = logits.iter().enumerate();
    let loss = each.clone().map(|(i, x)| wanted(i) * (all - x)).sum();
    (
        loss,
        each.map(|(i, x)| (x - all).exp() - wanted(i)).collect(),
    )
}

/// Attention with one head over `[channels, positions]`, as [`attention`](crate::attention) says; in f64.
///
/// Lengths must agree; `channels` is at least 1.
#[must_use]
pub fn attention(channels: usize, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
    let positions = q.len() / channels;
    let at = |of: &[f32], c: usize, i: usize| f64::from(of[c * positions + i]);
    let mut output = vec![0.0; q.len()];
    for i in 0..positions {
        let scores: Vec<f64> = (0..positions)
            .map(|j| {
                let sum: f64 = (0..channels).map(|c| at(q, c, i) * at(k, c, j)).sum();
                sum / (channels as f64).sqrt()
            })
            .collect();
        let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - greatest).exp()).collect();
        let total: f64 = weights.iter().sum();
        for c in 0..channels {
            let sum: f64 = (weights.iter().enumerate())
                .map(|(j, weight)| weight * at(v, c, j))
                .sum();
            output[c * positions + i] = sum / total;
        }
    }
    output
}

/// A convolution with bias: `input` `[inputs, height, width]` to `[outputs, height', width']`, row-major. Each output is one chain of
/// fused multiply-adds from the bias, over inputs, kernel rows and kernel columns; zeros around the picture take part.
///
/// # Errors
/// As [`Conv2d::new`](crate::Conv2d::new) and [`Conv2d::run`](crate::Conv2d::run).
pub fn conv2d(
    shape: &ConvShape,
    weight: &[f32],
    bias: &[f32],
    input: &[f32],
    height: usize,
    width: usize,
) -> Result<Vec<f32>, Error> {
    conv::check(shape, weight, bias)?;
    conv::length("input", shape.inputs * height * width, input.len())?;
    let (Some(rows), Some(columns)) = (shape.output(height), shape.output(width)) else {
        return Err(Error::Empty { what: "output" });
    };
    let before = shape.padding.0;
    let at =
        |channel: usize, y: usize, x: usize| match (y.checked_sub(before), x.checked_sub(before)) {
            (Some(y), Some(x)) if y < height && x < width => {
                input[(channel * height + y) * width + x]
            }
            _ => 0.0,
        };
    let mut output = Vec::with_capacity(shape.outputs * rows * columns);
    for (weight, &bias) in weight.chunks_exact(weight.len() / shape.outputs).zip(bias) {
        for y in 0..rows {
            for x in 0..columns {
                let mut sum = bias;
                let mut weight = weight.iter();
                for channel in 0..shape.inputs {
                    for ky in 0..shape.side {
                        for kx in 0..shape.side {
                            let value = at(channel, y * shape.stride + ky, x * shape.stride + kx);
                            sum = weight.next().map_or(sum, |w| value.mul_add(*w, sum));
                        }
                    }
                }
                output.push(sum);
            }
        }
    }
    Ok(output)
}
