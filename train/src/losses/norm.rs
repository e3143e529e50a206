//! Batch normalisation (Ioffe and Szegedy 2015), as PyTorch has it.

use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use vqlc_model::params::Tensors;
use vqlc_ops::tensor::{Order, batch_norm_train};

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

    /// Maps `x`, which lie in `order`, normalised, in their dtype; gradients flow to them and not to the parameters.
    pub(super) fn frozen(
        &self,
        x: &Tensor,
        statistics: Statistics,
        order: Order,
    ) -> Result<Tensor> {
        let (weight, bias) = (self.weight.detach(), self.bias.detach());
        if statistics == Statistics::Batch {
            return Ok(batch_norm_train(x, &weight, &bias, EPS, order)?.0);
        }
        let mut shape = [1; 4];
        shape[order.channels()] = weight.elem_count();
        let scale = (weight / (&self.variance + EPS)?.sqrt()?)?;
        let y = x
            .to_dtype(DType::F32)?
            .broadcast_sub(&self.mean.reshape(&shape)?)?
            .broadcast_mul(&scale.reshape(&shape)?)?
            .broadcast_add(&bias.reshape(&shape)?)?;
        Ok(y.to_dtype(x.dtype())?)
    }

    /// As with a batch's own statistics; gradients flow to the parameters too, and the running statistics move.
    pub(super) fn learn(&mut self, x: &Tensor, order: Order) -> Result<Tensor> {
        let (y, mean, variance) = batch_norm_train(x, &self.weight, &self.bias, EPS, order)?;
        let count = (x.elem_count() / mean.elem_count()) as f64;
        let unbias = count / (count - 1.0).max(1.0);
        let moved = |old: &Tensor, new: &Tensor, factor: f64| -> Result<Tensor> {
            Ok(((old * (1.0 - MOMENTUM))? + (new * (MOMENTUM * factor))?)?)
        };
        self.mean = moved(&self.mean, &mean, 1.0)?;
        self.variance = moved(&self.variance, &variance, unbias)?;
        self.batches += 1;
        Ok(y)
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
