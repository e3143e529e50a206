//! Group normalisation with swish.

mod first;
mod last;

use std::sync::{Arc, OnceLock};

use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp3, DType, Layout, Result, Shape, Tensor,
    backend::BackendStorage,
    cuda_backend::cudarc::driver::{CudaSlice, CudaView},
};
use half::bf16;

use super::{
    Error,
    kernels::{Number, counter, device, tensor, view, view_of},
};
use crate::tensor::Order;

const NAME: &str = "group_norm on CUDA";

/// As [`tensor::group_norm`](crate::tensor::group_norm), of `x` (f32 or bf16) on CUDA; gives the dtype of `x`.
pub(crate) fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    swish: bool,
    order: Order,
) -> Result<Tensor> {
    let norm = Norm {
        groups,
        eps: eps as f32,
        swish,
        order,
    };
    Ok(apply(norm, x, weight, bias)?.0)
}

/// As [`tensor::batch_norm_train`](crate::tensor::batch_norm_train), of maps (f32 or bf16) on CUDA.
pub(crate) fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    order: Order,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (batch, channels, height, width) = order.to_channels_first(x)?.dims4()?;
    // The batch as one picture, of which each channel is a group.
    let one = match order {
        Order::ChannelsFirst => x
            .transpose(0, 1)?
            .reshape((1, channels, batch * height, width))?,
        Order::ChannelsLast => x.reshape((1, batch * height, width, channels))?,
    };
    let norm = Norm {
        groups: channels,
        eps: eps as f32,
        swish: false,
        order,
    };
    let (y, stats) = apply(norm, &one, weight, bias)?;
    let device = device(NAME, x)?;
    let stats = stats.get().ok_or_else(Error::no_forward)?.try_clone();
    let stats = tensor(
        stats.map_err(candle_core::Error::wrap)?,
        &device,
        (channels, 2),
    );
    let [mean, scale] = [0, 1].map(|which| stats.narrow(1, which, 1)?.flatten_all());
    // Rounding could leave a little less than nothing.
    let variance = (scale?.sqr()?.recip()? - eps)?.maximum(0f64)?;
    let y = match order {
        Order::ChannelsFirst => y
            .reshape((channels, batch, height, width))?
            .transpose(0, 1)?
            .contiguous()?,
        Order::ChannelsLast => y.reshape(x.shape())?,
    };
    Ok((y, mean?, variance))
}

/// The mean of each group and 1 / its standard deviation, `[b * groups, 2]`.
pub(super) type Stats = CudaSlice<f32>;

fn apply(
    norm: Norm,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<(Tensor, Arc<OnceLock<Stats>>)> {
    let (channels, area) = norm.channels_and_area(x.dims()).unwrap_or_default();
    if channels == 0 || area == 0 || x.elem_count() == 0 {
        return Err(Error::Argument {
            operation: NAME,
            expected: "maps of at least a number",
            got: format!("{:?}", x.dims()),
        }
        .into());
    }
    norm.check(channels, [weight, bias])?;
    let stats = Arc::default();
    let op = Op {
        norm,
        stats: Arc::clone(&stats),
    };
    let f32s = |t: &Tensor| t.to_dtype(DType::F32)?.contiguous();
    let y = x
        .contiguous()?
        .apply_op3(&f32s(weight)?, &f32s(bias)?, op)?;
    Ok((y, stats))
}

/// A normalisation of maps that lie in `order`.
#[derive(Clone, Copy)]
pub(super) struct Norm {
    pub(super) groups: usize,
    pub(super) eps: f32,
    pub(super) swish: bool,
    pub(super) order: Order,
}

/// Weight and bias, `[c]`, and the bias that what is normalised still lacks, of maps whose channels are last.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'a> {
    pub(super) weight: &'a CudaView<'a, f32>,
    pub(super) bias: &'a CudaView<'a, f32>,
    pub(super) before: Option<&'a CudaView<'a, f32>>,
}

/// The sizes that the kernels count with.
struct Sizes {
    batch: u32,
    channels: u32,
    groups: u32,
    area: u32,
    swish: u32,
}

impl Norm {
    /// Channels of maps of these sizes, and positions of a picture.
    fn channels_and_area(&self, dims: &[usize]) -> Option<(usize, usize)> {
        let (_, inner) = dims.split_first()?;
        let (&channels, plane) = match self.order {
            Order::ChannelsFirst => inner.split_first()?,
            Order::ChannelsLast => inner.split_last()?,
        };
        Some((channels, plane.iter().product()))
    }

    /// That weight and bias fit maps of `channels` channels.
    pub(super) fn check(&self, channels: usize, [weight, bias]: [&Tensor; 2]) -> Result<()> {
        if self.groups > 0
            && channels.is_multiple_of(self.groups)
            && weight.dims() == [channels]
            && bias.dims() == [channels]
        {
            return Ok(());
        }
        Err(Error::Argument {
            operation: NAME,
            expected: "weight and bias for each channel, and groups that divide the channels",
            got: format!(
                "{channels} channels, {:?}, {:?}, {} groups",
                weight.dims(),
                bias.dims(),
                self.groups
            ),
        }
        .into())
    }

    fn sizes(&self, dims: &[usize]) -> Result<Sizes> {
        let (channels, area) = self.channels_and_area(dims).unwrap_or_default();
        // A row is counted, and so is every plane.
        counter(NAME, "a group", channels / self.groups * area)?;
        counter(NAME, "the batch", dims[0] * channels)?;
        Ok(Sizes {
            batch: dims[0] as u32,
            channels: channels as u32,
            groups: self.groups as u32,
            area: area as u32,
            swish: self.swish.into(),
        })
    }

    /// What is normalised, and the groups' statistics.
    pub(super) fn forward<T: Number>(
        &self,
        x: (&CudaStorage, &Layout),
        parameters: Parameters<'_>,
    ) -> Result<(CudaSlice<T>, Stats)> {
        let sizes = self.sizes(x.1.dims())?;
        match self.order {
            Order::ChannelsFirst => first::forward(&sizes, self.eps, x, parameters),
            Order::ChannelsLast => last::forward(&sizes, self.eps, x, parameters),
        }
    }

    /// As [`Self::forward`], which left `stats`.
    pub(super) fn again<T: Number>(
        &self,
        x: (&CudaStorage, &Layout),
        parameters: Parameters<'_>,
        stats: &Stats,
    ) -> Result<CudaSlice<T>> {
        let sizes = self.sizes(x.1.dims())?;
        match self.order {
            // There the statistics are taken on the way.
            Order::ChannelsFirst => Ok(first::forward(&sizes, self.eps, x, parameters)?.0),
            Order::ChannelsLast => last::apply(&sizes, x, parameters, stats),
        }
    }

    /// Gradients of x, to which `beside` is added, of weight and of bias, from that of the output. All are contiguous.
    pub(super) fn backward<T: Number>(
        &self,
        x: &Tensor,
        parameters: Parameters<'_>,
        stats: &Stats,
        dy: &Tensor,
        beside: Option<&Tensor>,
    ) -> Result<[Tensor; 3]> {
        let sizes = self.sizes(x.dims())?;
        let device = device(NAME, x)?;
        let (dx, both) = match self.order {
            Order::ChannelsFirst => {
                first::backward::<T>(&device, &sizes, x, parameters, stats, dy)?
            }
            Order::ChannelsLast => {
                last::backward::<T>(&device, &sizes, x, parameters, stats, dy, beside)?
            }
        };
        let both = tensor(both, &device, (2, sizes.channels as usize));
        let dx = tensor(dx, &device, x.shape());
        let dx = match (self.order, beside) {
            (Order::ChannelsFirst, Some(beside)) => (dx + beside)?,
            // There it was added on the way.
            _ => dx,
        };
        Ok([dx, both.get(1)?, both.get(0)?])
    }
}

/// [`Norm`] as an operation.
struct Op {
    norm: Norm,
    /// Left by the forward pass for the backward pass.
    stats: Arc<OnceLock<Stats>>,
}

impl Op {
    fn forward<T: Number>(
        &self,
        device: &CudaDevice,
        x: (&CudaStorage, &Layout),
        parameters: Parameters<'_>,
    ) -> Result<CudaStorage> {
        let (y, stats) = self.norm.forward::<T>(x, parameters)?;
        // An operation is applied once, so nothing is there yet.
        let _ = self.stats.set(stats);
        Ok(CudaStorage::wrap_cuda_slice(y, device.clone()))
    }
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Err(Error::on_cpu(NAME).into())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_at: &Layout,
        weight: &CudaStorage,
        weight_at: &Layout,
        bias: &CudaStorage,
        bias_at: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let parameters = Parameters {
            weight: &view(weight, weight_at)?,
            bias: &view(bias, bias_at)?,
            before: None,
        };
        let y = match x.dtype() {
            DType::F32 => self.forward::<f32>(&x.device, (x, x_at), parameters)?,
            DType::BF16 => self.forward::<bf16>(&x.device, (x, x_at), parameters)?,
            other => return Err(Error::dtype(NAME, other).into()),
        };
        Ok((y, x_at.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let stats = self.stats.get().ok_or_else(Error::no_forward)?;
        let (weight, bias) = (weight.storage_and_layout(), bias.storage_and_layout());
        let parameters = Parameters {
            weight: &view_of(&weight)?,
            bias: &view_of(&bias)?,
            before: None,
        };
        let dy = dy.contiguous()?;
        let [dx, dweight, dbias] = match x.dtype() {
            DType::F32 => self.norm.backward::<f32>(x, parameters, stats, &dy, None)?,
            DType::BF16 => self
                .norm
                .backward::<bf16>(x, parameters, stats, &dy, None)?,
            other => return Err(Error::dtype(NAME, other).into()),
        };
        Ok((Some(dx), Some(dweight), Some(dbias)))
    }
}
