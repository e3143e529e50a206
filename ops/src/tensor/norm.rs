//! Normalisation.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, D, DType, Error, Layout, Result, Shape, Tensor, bail};

use super::{
    Order,
    values::{Values, on_cpu, slice},
};
use crate::{GroupNorm, norm::Moments};

/// Group normalisation of maps `x`, which lie in `order` (Wu and He 2018; biased variance), with `weight` and `bias` `[c]` (f32), followed
/// by swish, `x * sigmoid(x)`, where `swish` says so. Statistics are taken in f32 or better. Differentiable in all three.
///
/// # Errors
/// `groups` that does not divide the channels; a tensor operation's.
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    swish: bool,
    order: Order,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::group_norm(x, weight, bias, groups, eps, swish, order);
    }
    order.around(
        x,
        |x| Ok(normalised(x, weight, bias, groups, eps, swish)?.y),
    )
}

/// Batch normalisation of maps `x`, which lie in `order`, by the statistics of this batch (Ioffe and Szegedy 2015; biased variance), with
/// `weight` and `bias` `[c]` (f32), differentiable in all three; and those statistics, mean and biased variance `[c]` (f32), which carry no
/// gradient.
///
/// # Errors
/// Shapes that do not fit; a tensor operation's.
pub fn batch_norm_train(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    order: Order,
) -> Result<(Tensor, Tensor, Tensor)> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::batch_norm(x, weight, bias, eps, order);
    }
    let x = order.to_channels_first(x)?;
    let (batch, channels, height, width) = x.dims4()?;
    // A channel of the whole batch is a group of its own.
    let one = x
        .transpose(0, 1)?
        .reshape((1, channels, batch * height * width))?;
    let Normalised { y, mean, variance } = normalised(&one, weight, bias, channels, eps, false)?;
    let y = y
        .reshape((channels, batch, height, width))?
        .transpose(0, 1)?;
    let y = order.of_channels_first(&y)?.contiguous()?;
    Ok((y, mean, variance))
}

/// A result, and the moments of the groups in order, without gradients.
struct Normalised {
    y: Tensor,
    mean: Tensor,
    variance: Tensor,
}

fn normalised(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    swish: bool,
) -> Result<Normalised> {
    if !on_cpu(x) {
        return plain(x, weight, bias, groups, eps, swish);
    }
    let moments = Arc::default();
    let op = Norm {
        groups,
        eps,
        swish,
        moments: Arc::clone(&moments),
    };
    let y = x
        .contiguous()?
        .apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?;
    let moments: &[Moments] = moments.get().map_or(&[], Vec::as_slice);
    let gather = |f: fn(&Moments) -> f64| {
        let values = moments.iter().map(|m| f(m) as f32).collect();
        Tensor::from_vec(values, moments.len(), x.device())
    };
    Ok(Normalised {
        y,
        mean: gather(|m| m.mean)?,
        variance: gather(|m| m.variance)?,
    })
}

fn plain(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    swish: bool,
) -> Result<Normalised> {
    let (batch, channels) = (x.dim(0)?, x.dim(1)?);
    let flat = x.to_dtype(DType::F32)?.reshape((batch, groups, ()))?;
    let mean = flat.mean_keepdim(D::Minus1)?;
    let centred = flat.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let unit = centred.broadcast_div(&(&variance + eps)?.sqrt()?)?;
    let y = unit
        .reshape((batch, channels, ()))?
        .broadcast_mul(&weight.reshape((1, channels, 1))?)?
        .broadcast_add(&bias.reshape((1, channels, 1))?)?
        .reshape(x.shape())?;
    let y = if swish { y.silu()? } else { y };
    Ok(Normalised {
        y: y.to_dtype(x.dtype())?,
        mean: mean.flatten_all()?.detach(),
        variance: variance.flatten_all()?.detach(),
    })
}

/// [`group_norm`] on the CPU. The forward pass leaves its moments for the backward pass.
struct Norm {
    groups: usize,
    eps: f64,
    swish: bool,
    moments: Arc<OnceLock<Vec<Moments>>>,
}

impl Norm {
    fn prepared(&self, weight: &[f32], bias: &[f32]) -> Result<GroupNorm> {
        GroupNorm::new(self.groups, self.eps, weight, bias, self.swish).map_err(Error::wrap)
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "vqlc-group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weight = slice(weight, weight_layout)?;
        let [batch, channels, ..] = *x_layout.dims() else {
            bail!(
                "group_norm: expected [b, c, ...], got {:?}",
                x_layout.shape()
            );
        };
        if weight.len() != channels {
            bail!(
                "group_norm: expected {channels} weights, got {}",
                weight.len()
            );
        }
        let norm = self.prepared(weight, slice(bias, bias_layout)?)?;
        let input = slice(x, x_layout)?;
        let mut output = vec![0.0; input.len()];
        let moments = norm
            .run_batch(batch, input, &mut output)
            .map_err(Error::wrap)?;
        // An operation runs once.
        let _ = self.moments.set(moments);
        Ok((CpuStorage::F32(output), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let [x_values, weights, biases, gradients] = [x, weight, bias, &gradient].map(Values::of);
        let norm = self.prepared(weights.slice()?, biases.slice()?)?;
        let moments = self.moments.get().map_or(&[][..], Vec::as_slice);
        let mut output = vec![0.0; x.elem_count()];
        let (at_weight, at_bias) = norm
            .backward(
                x.dim(0)?,
                moments,
                x_values.slice()?,
                gradients.slice()?,
                &mut output,
            )
            .map_err(Error::wrap)?;
        let tensor = |values: Vec<f32>, like: &Tensor| {
            like.track_op()
                .then(|| Tensor::from_vec(values, like.shape(), like.device()))
                .transpose()
        };
        Ok((
            tensor(output, x)?,
            tensor(at_weight, weight)?,
            tensor(at_bias, bias)?,
        ))
    }
}
