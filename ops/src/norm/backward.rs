//! Gradients of group normalisation and swish.
//!
//! With u = (x - mean) * scale, v = weight * u + bias, y = swish(v), and D the gradient at v, n numbers in a group:
//! dbias = sum D, dweight = sum D u, dx = scale * (weight * D - sum(weight * D) / n - u * sum(weight * D u) / n).

use rayon::prelude::*;

use super::{GroupNorm, Moments, SUMS, exp};
use crate::Error;
use crate::conv::length;
use crate::lanes::{Job, Lanes};

/// Rows of [`SUMS`] numbers summed in f32 before they are added up in f64.
const ROWS: usize = 16;

impl GroupNorm {
    /// The gradients of weight and bias, both `[channels]`, of an `input` `[batch, channels, positions]` that
    /// [`run_batch`](Self::run_batch) gave `moments` of; that of the input, from the result's, goes to `output`.
    pub(crate) fn backward(
        &self,
        batch: usize,
        moments: &[Moments],
        input: &[f32],
        gradient: &[f32],
        output: &mut [f32],
    ) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let group = self.group_length(batch, input)?;
        length("moments", batch * self.groups, moments.len())?;
        length("gradient", input.len(), gradient.len())?;
        length("output", input.len(), output.len())?;
        let sums: Vec<Vec<[f64; 2]>> = output
            .par_chunks_mut(group)
            .zip(input.par_chunks(group))
            .zip(gradient.par_chunks(group))
            .zip(moments)
            .enumerate()
            .map(|(index, (((output, input), gradient), &moments))| {
                let (weight, bias) = self.of_group(index);
                self.kernel.run(BackwardJob {
                    input,
                    gradient,
                    output,
                    weight,
                    bias,
                    moments,
                    eps: self.eps,
                    swish: self.swish,
                })
            })
            .collect();
        // Picture by picture, in their order.
        let channels = self.weight.len();
        let mut totals = vec![[0.0; 2]; channels];
        for (index, sums) in sums.iter().flatten().enumerate() {
            let total = &mut totals[index % channels];
            *total = [total[0] + sums[0], total[1] + sums[1]];
        }
        Ok(totals.iter().map(|t| (t[1] as f32, t[0] as f32)).unzip())
    }
}

/// One group of one picture. Gives for each channel the sums of D and of D u.
struct BackwardJob<'a> {
    input: &'a [f32],
    gradient: &'a [f32],
    output: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    moments: Moments,
    eps: f64,
    swish: bool,
}

impl Job for BackwardJob<'_> {
    type Output = Vec<[f64; 2]>;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Self::Output {
        let n = self.input.len() as f64;
        let positions = self.input.len() / self.weight.len();
        let scale = self.moments.scale(self.eps);
        let offset = -self.moments.mean * scale;
        let unit = [scale as f32, offset as f32];
        let channels = self
            .input
            .chunks_exact(positions)
            .zip(self.gradient.chunks_exact(positions))
            .zip(self.output.chunks_exact_mut(positions))
            .zip(self.weight.iter().zip(self.bias));
        let mut sums = Vec::with_capacity(self.weight.len());
        for (((input, gradient), output), (&weight, &bias)) in channels {
            let affine = [weight, bias];
            sums.push(if self.swish {
                before_affine::<true>(input, gradient, output, unit, affine)
            } else {
                before_affine::<false>(input, gradient, output, unit, affine)
            });
        }
        let mean = |which: usize| {
            let weighted = sums.iter().zip(self.weight);
            weighted
                .map(|(sums, &w)| f64::from(w) * sums[which])
                .sum::<f64>()
                / n
        };
        let means = [mean(0), mean(1)];
        let slope = (-scale * means[1] * scale) as f32;
        let constant = (-scale * means[0] - scale * means[1] * offset) as f32;
        let channels = self
            .input
            .chunks_exact(positions)
            .zip(self.output.chunks_exact_mut(positions))
            .zip(self.weight);
        for ((input, output), &weight) in channels {
            let factor = (f64::from(weight) * scale) as f32;
            for (d, &x) in output.iter_mut().zip(input) {
                *d = d.mul_add(factor, x.mul_add(slope, constant));
            }
        }
        sums
    }
}

/// Writes D, the gradients before swish, of one channel; gives the sums of D and of D u.
#[inline(always)]
fn before_affine<const SWISH: bool>(
    input: &[f32],
    gradient: &[f32],
    output: &mut [f32],
    [scale, offset]: [f32; 2],
    [weight, bias]: [f32; 2],
) -> [f64; 2] {
    let mut totals = [[0.0_f64; SUMS]; 2];
    let blocks = input
        .chunks(ROWS * SUMS)
        .zip(gradient.chunks(ROWS * SUMS))
        .zip(output.chunks_mut(ROWS * SUMS));
    for ((x, g), d) in blocks {
        let mut sums = [[0.0_f32; SUMS]; 2];
        let mut row = |x: &[f32], g: &[f32], d: &mut [f32]| {
            for i in 0..x.len() {
                let unit = x[i].mul_add(scale, offset);
                let mut slope = g[i];
                if SWISH {
                    let v = unit.mul_add(weight, bias);
                    let sigmoid = 1.0 / (1.0 + exp(-v));
                    slope *= sigmoid * v.mul_add(1.0 - sigmoid, 1.0);
                }
                d[i] = slope;
                sums[0][i] += slope;
                sums[1][i] = slope.mul_add(unit, sums[1][i]);
            }
        };
        let (x, x_rest) = x.as_chunks::<SUMS>();
        let (g, g_rest) = g.as_chunks::<SUMS>();
        let (d, d_rest) = d.as_chunks_mut::<SUMS>();
        for ((x, g), d) in x.iter().zip(g).zip(d) {
            row(x, g, d);
        }
        row(x_rest, g_rest, d_rest);
        for (totals, sums) in totals.iter_mut().zip(sums) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += f64::from(sum);
            }
        }
    }
    totals.map(|totals| totals.iter().sum())
}
