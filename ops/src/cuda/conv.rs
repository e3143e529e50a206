//! Convolution through cuDNN, with a bias of our own.

mod algorithms;
pub(super) mod bias;
mod cudnn;

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor,
    backend::BackendStorage, cuda_backend::cudarc::driver::CudaSlice,
};
use half::bf16;

use super::{
    Error,
    kernels::{Number, device, room, tensor, view, view_of},
};
use crate::tensor::{Maps, Order, Window};
use cudnn::Geometry;

const NAME: &str = "conv2d on CUDA";
/// Tensor cores take channels that are last by this many; others are filled up with zeros.
pub(super) const CHANNELS: usize = 8;

/// Asked for and not had: see [`detours`].
static DETOURS: AtomicUsize = AtomicUsize::new(0);

/// How many times in this process cuDNN did not have a convolution in bf16 with channels last, which then went round by channels first.
pub(crate) fn detours() -> usize {
    DETOURS.load(Ordering::Relaxed)
}

/// As [`tensor::conv2d`](crate::tensor::conv2d), for `x` on CUDA; `groups` is 1 or, of maps whose channels come first, the channels for a
/// depthwise convolution.
pub(crate) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
    groups: usize,
    maps: Maps,
) -> Result<Tensor> {
    let order = maps.order;
    let (x, weight) = (x.to_dtype(maps.compute)?, weight.to_dtype(maps.compute)?);
    let (outputs, inputs, ..) = weight.dims4()?;
    let bias = bias
        .map(|bias| bias.to_dtype(DType::F32)?.contiguous())
        .transpose()?;
    if bias.as_ref().is_some_and(|bias| bias.dims() != [outputs]) {
        return Err(Error::Argument {
            operation: NAME,
            expected: "a bias for each output",
            got: format!("{bias:?}"),
        }
        .into());
    }
    // cuDNN pads both sides alike. Zeros on one side of the kernel are as good as fewer of them on that side of the map, and are much less to
    // copy: of a row of weights instead of the largest maps there are.
    let (before, after) = window.padding;
    let padding = before.max(after);
    let mut weight = weight;
    for dim in [2, 3] {
        weight = weight.pad_with_zeros(dim, padding - before, padding - after)?;
    }
    let step = |x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, order| {
        let conv = Conv::new(order, x, weight.dims(), window.stride, padding, groups)?;
        conv.apply(x, weight, bias)
    };
    if order == Order::ChannelsFirst {
        return step(&x, &weight, bias.as_ref(), order);
    }
    let filled = |t: &Tensor, dim: usize, size: usize| {
        t.pad_with_zeros(dim, 0, size.next_multiple_of(CHANNELS) - size)
    };
    let wide_x = filled(&x, order.channels(), inputs)?;
    let wide_weight = filled(&filled(&weight, 0, outputs)?, 1, inputs)?;
    let wide_bias = bias
        .as_ref()
        .map(|bias| filled(bias, 0, outputs))
        .transpose()?;
    let sizes = wide_weight.dims();
    let conv = Conv::new(order, &wide_x, sizes, window.stride, padding, groups)?;
    if !conv.is_served(&x, x.track_op() || weight.track_op())? {
        return order.around(&x, |x| {
            step(x, &weight, bias.as_ref(), Order::ChannelsFirst)
        });
    }
    conv.apply(&wide_x, &wide_weight, wide_bias.as_ref())?
        .narrow(order.channels(), 0, outputs)?
        .contiguous()
}

/// A convolution of known sizes. Its arguments, maps and weight, lie in its order.
#[derive(Clone, Copy)]
pub(super) struct Conv {
    geometry: Geometry,
}

impl Conv {
    /// For `x`, which lies in `order`, and a weight of these sizes, `[outputs, inputs / groups, h, w]`.
    fn new(
        order: Order,
        x: &Tensor,
        weight: &[usize],
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Result<Self> {
        let x = order.to_channels_first(x)?;
        let geometry = Geometry::new(order, x.dims(), weight, stride, padding, groups)?;
        Ok(Self { geometry })
    }

    /// One that keeps the size of `x` `[b, c, h, w]`, whatever the order; of a weight of these sizes, `[outputs, c, side, side]`.
    pub(super) fn same(order: Order, x: [usize; 4], weight: &[usize]) -> Result<Self> {
        let padding = weight.last().map_or(0, |side| side / 2);
        let geometry = Geometry::new(order, &x, weight, 1, padding, 1)?;
        Ok(Self { geometry })
    }

    /// Whether cuDNN has what this takes, and what its gradients take, in the dtype of `x`.
    pub(super) fn is_served(&self, x: &Tensor, gradients: bool) -> Result<bool> {
        let device = device(NAME, x)?;
        match x.dtype() {
            DType::F32 => cudnn::serves::<f32>(&device, &self.geometry, gradients),
            DType::BF16 => {
                let serves = cudnn::serves::<bf16>(&device, &self.geometry, gradients)?;
                DETOURS.fetch_add(usize::from(!serves), Ordering::Relaxed);
                Ok(serves)
            }
            other => Err(Error::dtype(NAME, other).into()),
        }
    }

    /// Of `weight` as [`Self::new`] takes it, and `bias` (f32), contiguous.
    fn apply(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let weight = (self.geometry.order)
            .of_channels_first(weight)?
            .contiguous()?;
        let x = x.contiguous()?;
        match bias {
            None => x.apply_op2(&weight, self),
            Some(bias) => x.apply_op3(&weight, bias, self),
        }
    }

    /// The output, [b, c, h, w] whatever the order.
    pub(super) fn output(&self) -> [usize; 4] {
        self.geometry.output()
    }

    /// Shape of the output, in its order.
    pub(super) fn shape(&self) -> Shape {
        self.geometry.shape()
    }

    /// The output's numbers, without a bias.
    pub(super) fn products<T: Number>(
        &self,
        (x, x_at): (&CudaStorage, &Layout),
        (weight, weight_at): (&CudaStorage, &Layout),
    ) -> Result<CudaSlice<T>> {
        let device = &x.device;
        let (x, weight) = (view::<T>(x, x_at)?, view::<T>(weight, weight_at)?);
        let mut y = room::<T>(device, self.shape().elem_count())?;
        cudnn::forward(device, &self.geometry, &x, &weight, &mut y)?;
        Ok(y)
    }

    fn forward<T: Number>(
        &self,
        x: (&CudaStorage, &Layout),
        weight: (&CudaStorage, &Layout),
        bias: Option<(&CudaStorage, &Layout)>,
    ) -> Result<(CudaStorage, Shape)> {
        let device = &x.0.device;
        let mut y = self.products::<T>(x, weight)?;
        if let Some((bias, at)) = bias {
            let (output, order) = (self.output(), self.geometry.order);
            bias::add(device, &mut y, output, order, &view(bias, at)?, None)?;
        }
        let y = CudaStorage::wrap_cuda_slice(y, device.clone());
        Ok((y, self.shape()))
    }

    /// The gradient of the bias, `[c]`, from that of the output.
    pub(super) fn of_bias<T: Number>(&self, dy: &Tensor) -> Result<Tensor> {
        bias::gradient::<T>(dy, self.output(), self.geometry.order)
    }

    /// The gradient of x, from that of the output.
    pub(super) fn of_x<T: Number>(
        &self,
        x: &Shape,
        weight: &Tensor,
        dy: &Tensor,
    ) -> Result<Tensor> {
        let device = device(NAME, dy)?;
        let (weight_held, dy_held) = (weight.storage_and_layout(), dy.storage_and_layout());
        let (weight, dy) = (view_of::<T>(&weight_held)?, view_of::<T>(&dy_held)?);
        let mut dx = room::<T>(&device, x.elem_count())?;
        cudnn::backward_data(&device, &self.geometry, &weight, &dy, &mut dx)?;
        Ok(tensor(dx, &device, x))
    }

    /// The gradient of the weight, from that of the output.
    pub(super) fn of_weight<T: Number>(
        &self,
        x: &Tensor,
        weight: &Shape,
        dy: &Tensor,
    ) -> Result<Tensor> {
        let device = device(NAME, dy)?;
        let (x_held, dy_held) = (x.storage_and_layout(), dy.storage_and_layout());
        let (x, dy) = (view_of::<T>(&x_held)?, view_of::<T>(&dy_held)?);
        let mut dw = room::<T>(&device, weight.elem_count())?;
        cudnn::backward_filter(&device, &self.geometry, &x, &dy, &mut dw)?;
        Ok(tensor(dw, &device, weight))
    }

    /// Gradients of x and of the weight, each only where something asks for it.
    fn gradients<T: Number>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_x = x
            .track_op()
            .then(|| self.of_x::<T>(x.shape(), weight, dy))
            .transpose()?;
        let of_weight = weight
            .track_op()
            .then(|| self.of_weight::<T>(x, weight.shape(), dy))
            .transpose()?;
        Ok((of_x, of_weight))
    }
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
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
    ) -> Result<(CudaStorage, Shape)> {
        let (x, weight) = ((x, x_at), (weight, weight_at));
        match x.0.dtype() {
            DType::F32 => self.forward::<f32>(x, weight, None),
            DType::BF16 => self.forward::<bf16>(x, weight, None),
            other => Err(Error::dtype(NAME, other).into()),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        match x.dtype() {
            DType::F32 => self.gradients::<f32>(x, weight, &dy),
            DType::BF16 => self.gradients::<bf16>(x, weight, &dy),
            other => Err(Error::dtype(NAME, other).into()),
        }
    }
}

impl CustomOp3 for Conv {
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
        let (x, weight, bias) = ((x, x_at), (weight, weight_at), Some((bias, bias_at)));
        match x.0.dtype() {
            DType::F32 => self.forward::<f32>(x, weight, bias),
            DType::BF16 => self.forward::<bf16>(x, weight, bias),
            other => Err(Error::dtype(NAME, other).into()),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let of_bias = |gradient: fn(&Self, &Tensor) -> Result<Tensor>| {
            bias.track_op().then(|| gradient(self, &dy)).transpose()
        };
        let ((of_x, of_weight), of_bias) = match x.dtype() {
            DType::F32 => (
                self.gradients::<f32>(x, weight, &dy)?,
                of_bias(Self::of_bias::<f32>)?,
            ),
            DType::BF16 => (
                self.gradients::<bf16>(x, weight, &dy)?,
                of_bias(Self::of_bias::<bf16>)?,
            ),
            other => return Err(Error::dtype(NAME, other).into()),
        };
        Ok((of_x, of_weight, of_bias))
    }
}
