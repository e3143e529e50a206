//! Group normalisation and swish in one pass over memory after the statistics.

mod backward;

use rayon::prelude::*;

use crate::conv::length;
use crate::lanes::{Job, LANES, Lanes, Proven};
use crate::{Error, Kernel};

/// Numbers summed side by side; fixed, so that sums are the same everywhere.
const SUMS: usize = LANES;

/// Group normalisation over `[channels, positions]` (Wu and He 2018), with weight and bias a channel, optionally followed by swish,
/// `x * sigmoid(x)`. Mean and biased variance are taken in f64. Results are the same to the bit on every processor.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    groups: usize,
    eps: f64,
    weight: Vec<f32>,
    bias: Vec<f32>,
    swish: bool,
    kernel: Proven,
}

impl GroupNorm {
    /// `weight` and `bias` are `[channels]`; `groups` divides the number of channels.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`].
    pub fn new(
        groups: usize,
        eps: f64,
        weight: &[f32],
        bias: &[f32],
        swish: bool,
    ) -> Result<Self, Error> {
        if groups == 0 || weight.is_empty() {
            return Err(Error::Empty { what: "groups" });
        }
        length(
            "weight",
            weight.len().next_multiple_of(groups),
            weight.len(),
        )?;
        length("bias", weight.len(), bias.len())?;
        Ok(Self {
            groups,
            eps,
            weight: weight.into(),
            bias: bias.into(),
            swish,
            kernel: Proven::best(),
        })
    }

    /// The same with a given kernel.
    ///
    /// # Errors
    /// [`Error::Kernel`] when this processor cannot run it.
    #[doc(hidden)]
    pub fn with_kernel(mut self, kernel: Kernel) -> Result<Self, Error> {
        self.kernel = Proven::new(kernel).ok_or(Error::Kernel { got: kernel })?;
        Ok(self)
    }

    /// Normalises `input` `[channels, positions]` into `output`, of the same length. Runs on rayon's current pool.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`].
    pub fn run(&self, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.run_batch(1, input, output).map(drop)
    }

    /// As [`Self::run`], of `[batch, channels, positions]`, each picture by itself. Gives the moments of each group of each picture.
    pub(crate) fn run_batch(
        &self,
        batch: usize,
        input: &[f32],
        output: &mut [f32],
    ) -> Result<Vec<Moments>, Error> {
        let group = self.group_length(batch, input)?;
        length("output", input.len(), output.len())?;
        let moments = output
            .par_chunks_mut(group)
            .zip(input.par_chunks(group))
            .enumerate()
            .map(|(index, (output, input))| {
                let (weight, bias) = self.of_group(index);
                self.kernel.run(GroupJob {
                    input,
                    output,
                    weight,
                    bias,
                    eps: self.eps,
                    swish: self.swish,
                })
            })
            .collect();
        Ok(moments)
    }

    /// The numbers in a group of one picture.
    fn group_length(&self, batch: usize, input: &[f32]) -> Result<usize, Error> {
        if input.is_empty() || batch == 0 {
            return Err(Error::Empty { what: "input" });
        }
        let rows = batch * self.weight.len();
        length("input", input.len().next_multiple_of(rows), input.len())?;
        Ok(input.len() / (batch * self.groups))
    }

    /// Weight and bias of a group, counted through the pictures.
    fn of_group(&self, index: usize) -> (&[f32], &[f32]) {
        let members = self.weight.len() / self.groups;
        let first = index % self.groups * members;
        let range = first..first + members;
        (&self.weight[range.clone()], &self.bias[range])
    }
}

/// What a group is normalised by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    pub(crate) mean: f64,
    /// Biased: the mean square of the distances from the mean.
    pub(crate) variance: f64,
}

impl Moments {
    #[inline(always)]
    fn of(values: &[f32]) -> Self {
        let n = values.len() as f64;
        let mean = sum(values, |x| x) / n;
        let variance = sum(values, |x| (x - mean) * (x - mean)) / n;
        Self { mean, variance }
    }

    /// One over the standard deviation.
    #[inline(always)]
    fn scale(self, eps: f64) -> f64 {
        1.0 / (self.variance + eps).sqrt()
    }
}

/// One group.
struct GroupJob<'a> {
    input: &'a [f32],
    output: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f64,
    swish: bool,
}

impl Job for GroupJob<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Moments {
        let moments = Moments::of(self.input);
        let (mean, scale) = (moments.mean, moments.scale(self.eps));
        let positions = self.input.len() / self.weight.len();
        let channels = self
            .input
            .chunks_exact(positions)
            .zip(self.output.chunks_exact_mut(positions));
        for ((input, output), (&weight, &bias)) in channels.zip(self.weight.iter().zip(self.bias)) {
            let factor = (f64::from(weight) * scale) as f32;
            let offset = (f64::from(bias) - f64::from(weight) * scale * mean) as f32;
            for (y, &x) in output.iter_mut().zip(input) {
                let v = x.mul_add(factor, offset);
                *y = if self.swish { v / (1.0 + exp(-v)) } else { v };
            }
        }
        moments
    }
}

/// The f64 sum of `f` over the values, in an order that depends on their number alone.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; SUMS];
    let chunks = values.chunks_exact(SUMS);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f(f64::from(x));
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f(f64::from(x));
    }
    sums.iter().sum()
}

/// e^x to about 1e-7 of its value, in steps that vectorise and that every processor rounds alike. Saturates at e^-87 and e^88.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial of degree 7 (remainder below 6e-9), e^(n ln 2) by its bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Added and taken away again, it rounds to an integer, which then stands in the lowest bits.
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.0 / 5040.0;
    for c in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = r.mul_add(p, c);
    }
    let exponent = shifted
        .to_bits()
        .wrapping_sub(MAGIC.to_bits())
        .wrapping_add(127)
        << 23;
    p * f32::from_bits(exponent)
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn exp_is_the_exponential() {
        let mut x = -86.9_f32;
        while x < 87.9 {
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2e-7, "exp({x}): relative error {error}");
            x += 0.0137;
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::INFINITY) > 1e38);
        assert_eq!(exp(0.0), 1.0);
    }
}
