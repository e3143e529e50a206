//! Operations without weights: upsampling, pooling, activations.

#![allow(unsafe_code)]

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Layout, Result, Shape, Tensor,
    backend::BackendStorage,
    cuda_backend::{WrapErr, cudarc::driver::PushKernelArg},
};
use half::bf16;

use super::{
    Error,
    kernels::{
        Module, Number, counter, device, grid, kernel, pack, room, tensor, view, view_of, wide,
    },
};
use crate::tensor::Order;

const MODULE: Module = Module {
    name: "vqlc_small",
    source: concat!(include_str!("common.cuh"), include_str!("small.cu")),
};
const THREADS: u32 = 256;

/// Which operation. Inputs are f32 or bf16.
#[derive(Clone, Copy)]
pub(crate) enum Small {
    /// [`tensor::upsample2`](crate::tensor::upsample2)
    Upsample2(Order),
    /// [`tensor::max_pool2`](crate::tensor::max_pool2); the gradient goes to the first of several.
    MaxPool2(Order),
    /// [`tensor::relu`](crate::tensor::relu)
    Relu,
    /// [`tensor::relu6`](crate::tensor::relu6)
    Relu6,
    /// [`tensor::leaky_relu`](crate::tensor::leaky_relu) with this slope.
    LeakyRelu(f32),
}

/// Applies `small` to `x` on CUDA, with its gradient.
pub(crate) fn small(x: &Tensor, small: Small) -> Result<Tensor> {
    x.contiguous()?.apply_op1(small)
}

impl Small {
    fn kernel(self) -> &'static str {
        match self {
            Self::Upsample2(Order::ChannelsFirst) => "upsample2",
            Self::Upsample2(Order::ChannelsLast) => "upsample2_last",
            Self::MaxPool2(Order::ChannelsFirst) => "max_pool2",
            Self::MaxPool2(Order::ChannelsLast) => "max_pool2_last",
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::LeakyRelu(_) => "leaky_relu",
        }
    }

    fn slope(self) -> f32 {
        match self {
            Self::LeakyRelu(slope) => slope,
            _ => 0.0,
        }
    }

    /// Activations see all numbers as the channels of one position.
    fn sizes(self, x: &Shape) -> Result<Sizes> {
        let resized = |order: Order, to: fn(usize) -> usize| -> Result<Sizes> {
            let dims = x.dims4()?;
            let (height, width, channels, shape) = match (order, dims) {
                (Order::ChannelsFirst, (batch, channels, height, width)) => {
                    (height, width, 1, (batch, channels, to(height), to(width)))
                }
                (Order::ChannelsLast, (batch, height, width, channels)) => (
                    height,
                    width,
                    channels,
                    (batch, to(height), to(width), channels),
                ),
            };
            Ok(Sizes {
                height: height as u32,
                width: width as u32,
                channels,
                output: shape.into(),
            })
        };
        let sizes = match self {
            Self::Relu | Self::Relu6 | Self::LeakyRelu(_) => Sizes {
                height: 1,
                width: 1,
                channels: x.elem_count(),
                output: x.clone(),
            },
            Self::Upsample2(order) => resized(order, |side| 2 * side)?,
            Self::MaxPool2(order) => resized(order, |side| side / 2)?,
        };
        if sizes.output.elem_count() == 0 {
            return Err(Error::Argument {
                operation: self.name(),
                expected: "an input that gives at least a number",
                got: format!("{x:?}"),
            }
            .into());
        }
        counter(self.name(), "the input", x.elem_count())?;
        Ok(sizes)
    }

    fn forward<T: Number>(self, x: &CudaStorage, at: &Layout) -> Result<(CudaStorage, Shape)> {
        let device = &x.device;
        let sizes = self.sizes(at.shape())?;
        let x = view::<T>(x, at)?;
        let mut y = room::<T>(device, sizes.output.elem_count())?;
        let steps = match self {
            Self::MaxPool2(_) => sizes.output.elem_count(),
            _ => x.len(),
        };
        let steps = sizes.steps::<T>(steps, &[at]);
        let slope = self.slope();
        let name = format!("{}_forward", self.kernel());
        let function = MODULE.function(device, &kernel::<T>(&name, steps.wide))?;
        let mut launch = function.builder();
        launch.arg(&x).arg(&mut y).arg(&steps.count);
        launch.arg(&sizes.height).arg(&sizes.width);
        launch.arg(&steps.packs).arg(&slope);
        // SAFETY: the arguments are those of the forward kernels, in their order; x and y have the shapes that `sizes` gave, and
        // the count is the outputs of a pooling, else the inputs.
        unsafe { launch.launch(grid((blocks(steps.count), 1), THREADS)) }.w()?;
        let y = CudaStorage::wrap_cuda_slice(y, device.clone());
        Ok((y, sizes.output))
    }

    fn backward<T: Number>(self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let device = device(self.name(), x)?;
        let sizes = self.sizes(x.shape())?;
        // Pairs are read as one.
        let dy = if dy.is_contiguous() && dy.layout().start_offset().is_multiple_of(2) {
            dy.clone()
        } else {
            dy.force_contiguous()?
        };
        let steps = sizes.steps::<T>(x.elem_count(), &[x.layout(), dy.layout()]);
        let (x_held, dy_held) = (x.storage_and_layout(), dy.storage_and_layout());
        let (x_view, dy_view) = (view_of::<T>(&x_held)?, view_of::<T>(&dy_held)?);
        let mut dx = room::<T>(&device, x.elem_count())?;
        let slope = self.slope();
        let name = format!("{}_backward", self.kernel());
        let function = MODULE.function(&device, &kernel::<T>(&name, steps.wide))?;
        let mut launch = function.builder();
        launch.arg(&x_view).arg(&dy_view).arg(&mut dx);
        launch.arg(&steps.count);
        launch.arg(&sizes.height).arg(&sizes.width);
        launch.arg(&steps.packs).arg(&slope);
        // SAFETY: the arguments are those of the backward kernels, in their order; dy has the shape of the output, dx that of x, and
        // the count is the inputs.
        unsafe { launch.launch(grid((blocks(steps.count), 1), THREADS)) }.w()?;
        Ok(tensor(dx, &device, x.shape()))
    }
}

/// What goes in and comes out.
struct Sizes {
    height: u32,
    width: u32,
    /// That lie side by side: all where they are last, else one.
    channels: usize,
    output: Shape,
}

/// What a kernel goes through.
struct Steps {
    wide: bool,
    count: u32,
    /// Of a position.
    packs: u32,
}

impl Sizes {
    fn steps<T>(&self, numbers: usize, layouts: &[&Layout]) -> Steps {
        let wide = wide(self.channels, layouts);
        let pack = pack::<T>(wide);
        Steps {
            wide,
            count: (numbers / pack) as u32,
            packs: (self.channels / pack) as u32,
        }
    }
}

/// Enough to fill any GPU; each thread goes on by steps of the whole grid.
fn blocks(count: u32) -> u32 {
    count.div_ceil(THREADS).min(1 << 14)
}

impl CustomOp1 for Small {
    fn name(&self) -> &'static str {
        self.kernel()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Err(Error::on_cpu(self.name()).into())
    }

    fn cuda_fwd(&self, x: &CudaStorage, at: &Layout) -> Result<(CudaStorage, Shape)> {
        match x.dtype() {
            DType::F32 => self.forward::<f32>(x, at),
            DType::BF16 => self.forward::<bf16>(x, at),
            other => Err(Error::dtype(self.name(), other).into()),
        }
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        match x.dtype() {
            DType::F32 => self.backward::<f32>(x, dy).map(Some),
            DType::BF16 => self.backward::<bf16>(x, dy).map(Some),
            other => Err(Error::dtype(self.name(), other).into()),
        }
    }
}
