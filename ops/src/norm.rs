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

    /// What normalising `input` `[channels, positions]` comes to for each channel: for a convolution that normalises what it reads.
    /// Runs on rayon's current pool.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`].
    pub fn scales(&self, input: &[f32]) -> Result<Scales, Error> {
        let group = self.group_length(1, input)?;
        let of_groups = input.par_chunks(group).enumerate().map(|(index, input)| {
            let (weight, bias) = self.of_group(index);
            let moments = self.kernel.run(MomentsJob(input));
            let channels = weight.iter().zip(bias);
            channels
                .map(|(&weight, &bias)| Scale::new(moments, self.eps, weight, bias))
                .collect::<Vec<_>>()
        });
        Ok(Scales {
            channels: of_groups.collect::<Vec<_>>().concat(),
            swish: self.swish,
        })
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
        let (mut sums, mut squares) = ([0.0; SUMS], [0.0; SUMS]);
        let (chunks, rest) = values.as_chunks::<SUMS>();
        for chunk in chunks {
            for ((sum, square), &x) in sums.iter_mut().zip(&mut squares).zip(chunk) {
                let x = f64::from(x);
                *sum += x;
                // The square of an f32 is exact.
                *square += x * x;
            }
        }
        for ((sum, square), &x) in sums.iter_mut().zip(&mut squares).zip(rest) {
            let x = f64::from(x);
            *sum += x;
            *square += x * x;
        }
        let n = values.len() as f64;
        let mean = sums.iter().sum::<f64>() / n;
        // In one pass over f32 values f64 has digits to spare: what cancels is 1e-16 of the mean square.
        let variance = squares.iter().sum::<f64>() / n - mean * mean;
        Self {
            mean,
            // Not by max, which would make a number of a NaN.
            variance: if variance < 0.0 { 0.0 } else { variance },
        }
    }

    /// One over the standard deviation.
    #[inline(always)]
    fn scale(self, eps: f64) -> f64 {
        1.0 / (self.variance + eps).sqrt()
    }
}

/// What one channel is multiplied by, and what is added then.
#[derive(Clone, Copy, Debug)]
struct Scale {
    factor: f32,
    offset: f32,
}

impl Scale {
    #[inline(always)]
    fn new(moments: Moments, eps: f64, weight: f32, bias: f32) -> Self {
        let factor = f64::from(weight) * moments.scale(eps);
        Self {
            factor: factor as f32,
            offset: (f64::from(bias) - factor * moments.mean) as f32,
        }
    }

    #[inline(always)]
    fn of(self, x: f32, with_swish: bool) -> f32 {
        let v = x.mul_add(self.factor, self.offset);
        if with_swish { swish(v) } else { v }
    }

    #[inline(always)]
    fn apply(self, with_swish: bool, from: &[f32], to: &mut [f32]) {
        for (y, &x) in to.iter_mut().zip(from) {
            *y = self.of(x, with_swish);
        }
    }
}

/// A normalisation of known values, channel by channel.
#[derive(Clone, Debug)]
pub struct Scales {
    channels: Vec<Scale>,
    swish: bool,
}

impl Scales {
    pub(crate) fn check(&self, channels: usize) -> Result<(), Error> {
        length("scales", channels, self.channels.len())
    }

    /// Normalises values of a channel.
    #[inline(always)]
    pub(crate) fn apply(&self, channel: usize, from: &[f32], to: &mut [f32]) {
        self.channels[channel].apply(self.swish, from, to);
    }

    /// As [`Self::apply`], where the values are.
    #[inline(always)]
    pub(crate) fn apply_in_place(&self, channel: usize, values: &mut [f32]) {
        let scale = self.channels[channel];
        for value in values {
            *value = scale.of(*value, self.swish);
        }
    }
}

/// The moments of a group.
struct MomentsJob<'a>(&'a [f32]);

impl Job for MomentsJob<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Moments {
        Moments::of(self.0)
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
        let positions = self.input.len() / self.weight.len();
        let channels = self
            .input
            .chunks_exact(positions)
            .zip(self.output.chunks_exact_mut(positions));
        for ((input, output), (&weight, &bias)) in channels.zip(self.weight.iter().zip(self.bias)) {
            Scale::new(moments, self.eps, weight, bias).apply(self.swish, input, output);
        }
        moments
    }
}

/// x * sigmoid(x).
#[inline(always)]
pub(crate) fn swish(x: f32) -> f32 {
    x / (1.0 + exp(-x))
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
