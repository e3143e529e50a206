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
    kernels::{Module, Number, counter, device, grid, room, tensor, view, view_of},
};

const MODULE: Module = Module {
    name: "vqlc_small",
    source: concat!(include_str!("common.cuh"), include_str!("small.cu")),
};
const THREADS: u32 = 256;

/// Which operation. Inputs are f32 or bf16.
#[derive(Clone, Copy)]
pub(crate) enum Small {
    /// [`tensor::upsample2`](crate::tensor::upsample2)
    Upsample2,
    /// [`tensor::max_pool2`](crate::tensor::max_pool2); the gradient goes to the first of several.
    MaxPool2,
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
            Self::Upsample2 => "upsample2",
            Self::MaxPool2 => "max_pool2",
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

    /// Height and width of the maps that go in, and the shape that comes out. Activations see all numbers as one row.
    fn shapes(self, x: &Shape) -> Result<(u32, u32, Shape)> {
        let (height, width, shape) = match self {
            Self::Relu6 | Self::LeakyRelu(_) => (1, x.elem_count(), x.clone()),
            Self::Upsample2 => {
                let (batch, channels, height, width) = x.dims4()?;
                let shape = (batch, channels, 2 * height, 2 * width);
                (height, width, shape.into())
            }
            Self::MaxPool2 => {
                let (batch, channels, height, width) = x.dims4()?;
                let shape = (batch, channels, height / 2, width / 2);
                (height, width, shape.into())
            }
        };
        if shape.elem_count() == 0 {
            return Err(Error::Argument {
                operation: self.name(),
                expected: "an input that gives at least a number",
                got: format!("{x:?}"),
            }
            .into());
        }
        counter(self.name(), "the input", x.elem_count())?;
        Ok((height as u32, width as u32, shape))
    }

    fn forward<T: Number>(self, x: &CudaStorage, at: &Layout) -> Result<(CudaStorage, Shape)> {
        let device = &x.device;
        let (height, width, shape) = self.shapes(at.shape())?;
        let x = view::<T>(x, at)?;
        let mut y = room::<T>(device, shape.elem_count())?;
        let count = match self {
            Self::MaxPool2 => shape.elem_count(),
            _ => x.len(),
        } as u32;
        let slope = self.slope();
        let name = format!("{}_forward_{}", self.kernel(), T::SUFFIX);
        let function = MODULE.function(device, &name)?;
        let mut launch = function.builder();
        launch.arg(&x).arg(&mut y).arg(&count);
        launch.arg(&height).arg(&width).arg(&slope);
        // SAFETY: the arguments are those of the forward kernels, in their order; x and y have the shapes that `shapes` gave, and
        // `count` is the outputs of a pooling, else the inputs.
        unsafe { launch.launch(grid((blocks(count), 1), THREADS)) }.w()?;
        Ok((CudaStorage::wrap_cuda_slice(y, device.clone()), shape))
    }

    fn backward<T: Number>(self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let device = device(self.name(), x)?;
        let (height, width, _) = self.shapes(x.shape())?;
        let dy = dy.contiguous()?;
        // Pairs are read as one.
        let dy = if dy.layout().start_offset().is_multiple_of(2) {
            dy
        } else {
            dy.copy()?
        };
        let (x_held, dy_held) = (x.storage_and_layout(), dy.storage_and_layout());
        let (x_view, dy_view) = (view_of::<T>(&x_held)?, view_of::<T>(&dy_held)?);
        let mut dx = room::<T>(&device, x.elem_count())?;
        let (count, slope) = (x.elem_count() as u32, self.slope());
        let name = format!("{}_backward_{}", self.kernel(), T::SUFFIX);
        let function = MODULE.function(&device, &name)?;
        let mut launch = function.builder();
        launch.arg(&x_view).arg(&dy_view).arg(&mut dx).arg(&count);
        launch.arg(&height).arg(&width).arg(&slope);
        // SAFETY: the arguments are those of the backward kernels, in their order; dy has the shape of the output, dx that of x, and
        // `count` is the inputs.
        unsafe { launch.launch(grid((blocks(count), 1), THREADS)) }.w()?;
        Ok(tensor(dx, &device, x.shape()))
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
