//! Batch normalisation (Ioffe and Szegedy 2015), as PyTorch has it.

use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use vqlc_model::params::Tensors;

use crate::Result;

const EPS: f64 = 1e-5;
/// Share of the batch's statistics in the running ones' next values.
const MOMENTUM: f64 = 0.1;

/// What a batch is normalised by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Statistics {
    /// Its own mean and biased variance.
    Batch,
    /// The running ones.
    Running,
}

pub(super) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    /// Running mean and unbiased variance, `[channels]`, f32.
    mean: Tensor,
    variance: Tensor,
    batches: i64,
}

impl BatchNorm {
    pub(super) fn new(channels: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        let scale = Init::Randn {
            mean: 1.0,
            stdev: 0.02,
        };
        let weight = vb.get_with_hints(channels, "weight", scale)?;
        Ok(Self {
            bias: vb.get_with_hints(channels, "bias", Init::Const(0.0))?,
            mean: Tensor::zeros(channels, DType::F32, weight.device())?,
            variance: Tensor::ones(channels, DType::F32, weight.device())?,
            batches: 0,
            weight,
        })
    }

    /// `x` `[b, c, h, w]` normalised, in its dtype; gradients flow to it and not to the parameters.
    pub(super) fn frozen(&self, x: &Tensor, statistics: Statistics) -> Result<Tensor> {
        let wide = x.to_dtype(DType::F32)?;
        let (mean, variance) = match statistics {
            Statistics::Batch => moments(&wide)?,
            Statistics::Running => (per_channel(&self.mean)?, per_channel(&self.variance)?),
        };
        let (weight, bias) = (self.weight.detach(), self.bias.detach());
        apply(x, &wide, (&mean, &variance), &weight, &bias)
    }

    /// As with a batch's own statistics; gradients flow to the parameters too, and the running statistics move.
    pub(super) fn learn(&mut self, x: &Tensor) -> Result<Tensor> {
        let wide = x.to_dtype(DType::F32)?;
        let (mean, variance) = moments(&wide)?;
        let count = (wide.elem_count() / wide.dim(1)?) as f64;
        let unbias = count / (count - 1.0).max(1.0);
        let moved = |old: &Tensor, new: &Tensor, factor: f64| -> Result<Tensor> {
            let new = (new.detach().flatten_all()? * (MOMENTUM * factor))?;
            Ok(((old * (1.0 - MOMENTUM))? + new)?)
        };
        self.mean = moved(&self.mean, &mean, 1.0)?;
        self.variance = moved(&self.variance, &variance, unbias)?;
        self.batches += 1;
        apply(x, &wide, (&mean, &variance), &self.weight, &self.bias)
    }

    pub(super) fn state(&self) -> Result<[(&'static str, Tensor); 3]> {
        let batches = Tensor::new(self.batches, &Device::Cpu)?;
        Ok([
            ("running_mean", self.mean.clone()),
            ("running_var", self.variance.clone()),
            ("num_batches_tracked", batches),
        ])
    }

    /// Takes its tensors, `NAME.running_mean` and so on, from `state`.
    pub(super) fn load_state(&mut self, name: &str, state: &Tensors) -> Result<()> {
        let take = |part: &str, expected: &[usize]| -> Result<&Tensor> {
            let (name, expected) = (format!("{name}.{part}"), expected.to_vec());
            match state.get(&name) {
                None => Err(vqlc_model::Error::MissingTensor { name, expected }.into()),
                Some(found) if found.dims() != expected => {
                    let found = found.dims().to_vec();
                    Err(vqlc_model::Error::TensorShape {
                        name,
                        expected,
                        found,
                    }
                    .into())
                }
                Some(found) => Ok(found),
            }
        };
        let channels = [self.mean.dim(0)?];
        let here = |t: &Tensor| t.to_device(self.mean.device())?.to_dtype(DType::F32);
        let mean = here(take("running_mean", &channels)?)?;
        let variance = here(take("running_var", &channels)?)?;
        let batches = take("num_batches_tracked", &[])?.to_dtype(DType::I64)?;
        self.batches = batches.to_scalar()?;
        (self.mean, self.variance) = (mean, variance);
        Ok(())
    }
}

/// Mean and biased variance over all but the channels, `[1, c, 1, 1]`.
fn moments(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let mean = x.mean_keepdim((0, 2, 3))?;
    let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim((0, 2, 3))?;
    Ok((mean, variance))
}

fn apply(
    x: &Tensor,
    wide: &Tensor,
    (mean, variance): (&Tensor, &Tensor),
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    let scale = (per_channel(weight)? / (variance + EPS)?.sqrt()?)?;
    let y = wide
        .broadcast_sub(mean)?
        .broadcast_mul(&scale)?
        .broadcast_add(&per_channel(bias)?)?;
    Ok(y.to_dtype(x.dtype())?)
}

fn per_channel(values: &Tensor) -> Result<Tensor> {
    Ok(values.reshape((1, (), 1, 1))?)
}
