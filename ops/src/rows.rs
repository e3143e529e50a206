//! Operations on rows of numbers on the CPU, and their gradients: what transformers are made of beside products. The same bits on every
//! processor and for every number of threads.

use std::f32::consts::FRAC_1_SQRT_2;

use rayon::prelude::*;

use crate::lanes::{Job, LANES, Lanes, Proven};
use crate::norm::exp;

/// Logarithm of the least weight, beside a greatest of 1, that is not 0.
const LEAST: f32 = -80.0;

/// What becomes of each row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows {
    /// `softmax(scale x)`; of each block of so many rows the last sees all columns, the one before it one less, and so on; what is not seen
    /// becomes 0.
    Softmax { scale: f32, causal: Option<usize> },
    /// `(x - mean) / sqrt(variance + eps)`, with the biased variance.
    Standardise { eps: f32 },
    /// The Gaussian error linear unit (Hendrycks and Gimpel 2016), by the error function or its usual approximation with tanh.
    Gelu { tanh: bool },
}

/// Rows of one length, worked on by rayon's current pool.
pub(crate) fn forward(how: Rows, length: usize, x: &[f32], y: &mut [f32]) {
    let kernel = Proven::best();
    (y.par_chunks_mut(length).enumerate())
        .zip(x.par_chunks(length))
        .with_min_len(8)
        .for_each(|((row, y), x)| {
            let seen = seen(how, row, length);
            y[seen..].fill(0.0);
            kernel.run(Forward {
                how,
                x: &x[..seen],
                y: &mut y[..seen],
            });
        });
}

/// The gradient of `x`, in place of `grad`, that of `y`; `y` is what [`forward`] made of `x`.
pub(crate) fn backward(how: Rows, length: usize, x: &[f32], y: &[f32], grad: &mut [f32]) {
    let kernel = Proven::best();
    (grad.par_chunks_mut(length).enumerate())
        .zip(x.par_chunks(length).zip(y.par_chunks(length)))
        .with_min_len(8)
        .for_each(|((row, grad), (x, y))| {
            let seen = seen(how, row, length);
            grad[seen..].fill(0.0);
            kernel.run(Backward {
                how,
                x: &x[..seen],
                y: &y[..seen],
                grad: &mut grad[..seen],
            });
        });
}

/// How many columns a row sees.
fn seen(how: Rows, row: usize, length: usize) -> usize {
    match how {
        Rows::Softmax {
            causal: Some(rows), ..
        } => (length + row % rows + 1).saturating_sub(rows),
        _ => length,
    }
}

struct Forward<'a> {
    how: Rows,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Job for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { how, x, y } = self;
        match how {
            Rows::Softmax { scale, .. } => {
                let greatest = greatest(x);
                map(x, y, |x| {
                    let power = scale * (x - greatest);
                    if power < LEAST { 0.0 } else { exp(power) }
                });
                let factor = 1.0 / sum(y, |y| y);
                for y in y {
                    *y *= factor;
                }
            }
            Rows::Standardise { eps } => {
                let (mean, factor) = moments(x, eps);
                map(x, y, |x| (x - mean) * factor);
            }
            Rows::Gelu { tanh: false } => map(x, y, |x| x * normal_below(x)),
            Rows::Gelu { tanh: true } => map(x, y, |x| x * logistic(2.0 * inner(x))),
        }
    }
}

struct Backward<'a> {
    how: Rows,
    x: &'a [f32],
    y: &'a [f32],
    grad: &'a mut [f32],
}

impl Job for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { how, x, y, grad } = self;
        let count = x.len() as f32;
        match how {
            Rows::Softmax { scale, .. } => {
                let shared = products(y, grad);
                for (grad, y) in grad.iter_mut().zip(y) {
                    *grad = scale * y * (*grad - shared);
                }
            }
            Rows::Standardise { eps } => {
                let (_, factor) = moments(x, eps);
                let mean = sum(grad, |g| g) / count;
                let along = products(y, grad) / count;
                for (grad, y) in grad.iter_mut().zip(y) {
                    *grad = factor * (*grad - mean - y * along);
                }
            }
            Rows::Gelu { tanh: false } => {
                /// 1 / sqrt(2 pi)
                const PEAK: f32 = 0.398_942_3;
                for (grad, &x) in grad.iter_mut().zip(x) {
                    *grad *= normal_below(x) + x * PEAK * exp(-0.5 * x * x);
                }
            }
            Rows::Gelu { tanh: true } => {
                for (grad, &x) in grad.iter_mut().zip(x) {
                    let share = logistic(2.0 * inner(x));
                    let slope = 2.0 * (SLOPE + 3.0 * SLOPE * CUBE * x * x);
                    *grad *= share + x * share * (1.0 - share) * slope;
                }
            }
        }
    }
}

/// sqrt(2 / pi)
const SLOPE: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

/// What the approximation of the GELU takes the hyperbolic tangent of.
#[inline(always)]
fn inner(x: f32) -> f32 {
    SLOPE * (x + CUBE * x * x * x)
}

/// 1 / (1 + exp(-x)); (1 + tanh(x)) / 2 is that of 2 x.
#[inline(always)]
fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The share of the standard normal distribution below `x`, (1 + erf(x / sqrt 2)) / 2; to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26).
#[inline(always)]
fn normal_below(x: f32) -> f32 {
    let z = x.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4f32;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p.mul_add(t, c);
    }
    let beyond = 0.5 * p * t * exp(-z * z);
    if x > 0.0 { 1.0 - beyond } else { beyond }
}

/// Mean, and 1 / sqrt(variance + eps): the variance of what is left without the mean.
#[inline(always)]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let squares = sum(x, |x| (x - mean) * (x - mean));
    (mean, 1.0 / (squares / count + eps).sqrt())
}

#[inline(always)]
fn map(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f(x);
    }
}

/// Joins all numbers, from `start` on, lane by lane.
#[inline(always)]
fn lanes_of(x: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut lanes = [start; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = join(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = join(*lane, x);
    }
    lanes
}

/// The greatest number.
#[inline(always)]
fn greatest(x: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let lanes = lanes_of(x, f32::NEG_INFINITY, greater);
    lanes.into_iter().fold(f32::NEG_INFINITY, greater)
}

/// The sum of what `of` makes of each number.
#[inline(always)]
fn sum(x: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    lanes_of(x, 0.0, |sum, x| sum + of(x)).into_iter().sum()
}

/// The sum of the products of numbers side by side.
#[inline(always)]
fn products(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * b;
    }
    lanes.into_iter().sum()
}
