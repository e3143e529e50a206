//! Convolution through cuDNN, with a bias of our own.

#![allow(unsafe_code)]

mod cudnn;

use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape,
    Tensor,
    backend::BackendStorage,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaSlice, CudaView, PushKernelArg},
    },
};
use half::bf16;

use super::{
    Error,
    kernels::{Module, Number, counter, device, fold, grid, room, tensor, view, view_of, wide},
};
use crate::tensor::Window;
use cudnn::Geometry;

const NAME: &str = "conv2d on CUDA";
const MODULE: Module = Module {
    name: "vqlc_conv",
    source: concat!(include_str!("common.cuh"), include_str!("conv.cu")),
};
/// As in conv.cu.
const SUM_THREADS: u32 = 128;

/// As [`tensor::conv2d`](crate::tensor::conv2d), for `x` on CUDA; `groups` is 1, or the channels for a depthwise convolution.
/// `compute` is F32 or BF16, and the dtype of the result.
pub(crate) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
    groups: usize,
    compute: DType,
) -> Result<Tensor> {
    let (before, after) = window.padding;
    let x = x.to_dtype(compute)?;
    // cuDNN pads both sides alike.
    let (x, padding) = if before == after {
        (x, before)
    } else {
        let wider =
            x.pad_with_zeros(D::Minus1, before, after)?
                .pad_with_zeros(D::Minus2, before, after)?;
        (wider, 0)
    };
    let (x, weight) = (x.contiguous()?, weight.to_dtype(compute)?.contiguous()?);
    let geometry = Geometry::new(x.dims(), weight.dims(), window.stride, padding, groups)?;
    let op = Conv { geometry };
    match bias {
        None => x.apply_op2(&weight, op),
        Some(bias) if bias.dims() == [geometry.outputs] => {
            x.apply_op3(&weight, &bias.to_dtype(DType::F32)?.contiguous()?, op)
        }
        Some(bias) => Err(Error::Argument {
            operation: NAME,
            expected: "a bias for each output",
            got: format!("{:?}", bias.dims()),
        }
        .into()),
    }
}

#[derive(Clone, Copy)]
struct Conv {
    geometry: Geometry,
}

impl Conv {
    fn forward<T: Number>(
        &self,
        (x, x_at): (&CudaStorage, &Layout),
        (weight, weight_at): (&CudaStorage, &Layout),
        bias: Option<(&CudaStorage, &Layout)>,
    ) -> Result<(CudaStorage, Shape)> {
        let device = &x.device;
        let (x, weight) = (view::<T>(x, x_at)?, view::<T>(weight, weight_at)?);
        let shape = Shape::from(&self.geometry.output());
        let mut y = room::<T>(device, shape.elem_count())?;
        cudnn::forward(device, &self.geometry, &x, &weight, &mut y)?;
        if let Some((bias, at)) = bias {
            self.add(device, &mut y, &view(bias, at)?)?;
        }
        Ok((CudaStorage::wrap_cuda_slice(y, device.clone()), shape))
    }

    /// Adds the bias in place.
    fn add<T: Number>(
        &self,
        device: &CudaDevice,
        y: &mut CudaSlice<T>,
        bias: &CudaView<'_, f32>,
    ) -> Result<()> {
        const THREADS: u32 = 256;
        /// Enough to fill any GPU; each thread goes on by steps of the whole grid.
        const BLOCKS: u64 = 1 << 12;
        let (channels, area) = (self.geometry.outputs, self.geometry.area());
        let wide = wide(area, &[]);
        let packs = (y.len() / if wide { 16 / size_of::<T>() } else { 1 }) as u64;
        let blocks = packs.div_ceil(u64::from(THREADS)).min(BLOCKS) as u32;
        let (channels, area) = (
            counter(NAME, "outputs", channels)?,
            counter(NAME, "a map", area)?,
        );
        let function = MODULE.function(device, &kernel::<T>("bias_add", wide))?;
        let mut launch = function.builder();
        launch.arg(y).arg(bias);
        launch.arg(&packs).arg(&channels).arg(&area);
        // SAFETY: the arguments are bias_add's, in its order; `packs` covers y exactly, and the bias has a number for each channel.
        unsafe { launch.launch(grid((blocks, 1), THREADS)) }.w()?;
        Ok(())
    }

    /// The gradient of the bias, from that of the output.
    fn of_bias<T: Number>(&self, dy: &Tensor) -> Result<Tensor> {
        let device = device(NAME, dy)?;
        let (batch, channels, area) = (
            self.geometry.batch,
            self.geometry.outputs,
            self.geometry.area(),
        );
        let planes = counter(NAME, "the batch", batch * channels)?;
        let wide = wide(area, &[dy.layout()]);
        let area = counter(NAME, "a map", area)?;
        let held = dy.storage_and_layout();
        let view = view_of::<T>(&held)?;
        let mut sums = room::<f32>(&device, batch * channels)?;
        let function = MODULE.function(&device, &kernel::<T>("plane_sums", wide))?;
        let mut launch = function.builder();
        launch.arg(&view).arg(&mut sums).arg(&area);
        // SAFETY: the arguments are plane_sums', in its order; dy has `planes` planes of `area`, and `sums` a place for each.
        unsafe { launch.launch(grid((planes, 1), SUM_THREADS)) }.w()?;
        let sum = fold(&MODULE, &device, &sums, batch as u32, channels as u32)?;
        Ok(tensor(sum, &device, channels))
    }

    /// Gradients of x and of the weight, each only where something asks for it.
    fn gradients<T: Number>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let device = device(NAME, x)?;
        let (x_held, weight_held) = (x.storage_and_layout(), weight.storage_and_layout());
        let dy_held = dy.storage_and_layout();
        let (x_view, weight_view) = (view_of::<T>(&x_held)?, view_of::<T>(&weight_held)?);
        let dy_view = view_of::<T>(&dy_held)?;
        let mut of_x = None;
        if x.track_op() {
            let mut dx = room::<T>(&device, x.elem_count())?;
            cudnn::backward_data(&device, &self.geometry, &weight_view, &dy_view, &mut dx)?;
            of_x = Some(tensor(dx, &device, x.shape()));
        }
        let mut of_weight = None;
        if weight.track_op() {
            let mut dw = room::<T>(&device, weight.elem_count())?;
            cudnn::backward_filter(&device, &self.geometry, &x_view, &dy_view, &mut dw)?;
            of_weight = Some(tensor(dw, &device, weight.shape()));
        }
        Ok((of_x, of_weight))
    }
}

fn kernel<T: Number>(name: &str, wide: bool) -> String {
    format!("{name}_{}{}", T::SUFFIX, if wide { "_wide" } else { "" })
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
        let ((of_x, of_weight), of_bias) = match x.dtype() {
            DType::F32 => (
                self.gradients::<f32>(x, weight, &dy)?,
                bias.track_op()
                    .then(|| self.of_bias::<f32>(&dy))
                    .transpose()?,
            ),
            DType::BF16 => (
                self.gradients::<bf16>(x, weight, &dy)?,
                bias.track_op()
                    .then(|| self.of_bias::<bf16>(&dy))
                    .transpose()?,
            ),
            other => return Err(Error::dtype(NAME, other).into()),
        };
        Ok((of_x, of_weight, of_bias))
    }
}
