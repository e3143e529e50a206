//! Group normalisation with swish.

#![allow(unsafe_code)]

use std::sync::OnceLock;

use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp3, DType, Layout, Result, Shape, Tensor,
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

const NAME: &str = "group_norm on CUDA";
const MODULE: Module = Module {
    name: "vqlc_norm",
    source: concat!(include_str!("common.cuh"), include_str!("norm.cu")),
};
/// As in norm.cu.
const ROW_THREADS: u32 = 512;
const PLANE_THREADS: u32 = 128;

/// As [`tensor::group_norm`](crate::tensor::group_norm), of `x` (f32 or bf16) on CUDA; gives the dtype of `x`.
pub(crate) fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    swish: bool,
) -> Result<Tensor> {
    let channels = x.dim(1)?;
    if groups == 0
        || !channels.is_multiple_of(groups)
        || weight.dims() != [channels]
        || bias.dims() != [channels]
        || x.elem_count() == 0
    {
        return Err(Error::Argument {
            operation: NAME,
            expected: "x [b, c, ..], weight and bias [c], and groups that divide c",
            got: format!(
                "{:?}, {:?}, {:?}, {groups}",
                x.dims(),
                weight.dims(),
                bias.dims()
            ),
        }
        .into());
    }
    let op = GroupNorm {
        groups,
        eps: eps as f32,
        swish,
        stats: OnceLock::new(),
    };
    let f32s = |t: &Tensor| t.to_dtype(DType::F32)?.contiguous();
    x.contiguous()?.apply_op3(&f32s(weight)?, &f32s(bias)?, op)
}

struct GroupNorm {
    groups: usize,
    eps: f32,
    swish: bool,
    /// Mean and 1 / standard deviation of each row `[b * groups, 2]`, left by the forward pass for the backward pass.
    stats: OnceLock<CudaSlice<f32>>,
}

/// The sizes that the kernels count with.
struct Sizes {
    batch: u32,
    channels: u32,
    groups: u32,
    area: u32,
    swish: u32,
}

impl GroupNorm {
    fn sizes(&self, dims: &[usize]) -> Result<Sizes> {
        let area: usize = dims[2..].iter().product();
        // A row is counted, and so is every plane.
        counter(NAME, "a group", dims[1] / self.groups * area)?;
        counter(NAME, "the batch", dims[0] * dims[1])?;
        Ok(Sizes {
            batch: dims[0] as u32,
            channels: dims[1] as u32,
            groups: self.groups as u32,
            area: area as u32,
            swish: self.swish.into(),
        })
    }

    fn forward<T: Number>(
        &self,
        device: &CudaDevice,
        (x, x_at): (&CudaStorage, &Layout),
        weight: &CudaView<'_, f32>,
        bias: &CudaView<'_, f32>,
    ) -> Result<CudaStorage> {
        let sizes = self.sizes(x_at.dims())?;
        let name = kernel::<T>("norm_forward", wide(sizes.area as usize, &[x_at]));
        let function = MODULE.function(device, &name)?;
        let x = view::<T>(x, x_at)?;
        let rows = sizes.batch * sizes.groups;
        let mut y = room::<T>(device, x_at.shape().elem_count())?;
        let mut stats = room::<f32>(device, 2 * rows as usize)?;
        let mut launch = function.builder();
        launch.arg(&x).arg(weight).arg(bias);
        launch.arg(&mut y).arg(&mut stats);
        launch.arg(&sizes.channels).arg(&sizes.groups);
        launch.arg(&sizes.area).arg(&self.eps).arg(&sizes.swish);
        // SAFETY: the arguments are norm_forward's, in its order, and the views are as long as `sizes` says: `group_norm` checked
        // the shapes.
        unsafe { launch.launch(grid((rows, 1), ROW_THREADS)) }.w()?;
        // An operation is applied once, so nothing is there yet.
        let _ = self.stats.set(stats);
        Ok(CudaStorage::wrap_cuda_slice(y, device.clone()))
    }

    /// Gradients of x, weight and bias.
    fn backward<T: Number>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        dy: &Tensor,
    ) -> Result<[Tensor; 3]> {
        let device = device(NAME, x)?;
        let sizes = self.sizes(x.dims())?;
        let stats = self.stats.get().ok_or_else(|| Error::Argument {
            operation: NAME,
            expected: "a forward pass before the backward pass",
            got: "none".into(),
        })?;
        let dy = dy.contiguous()?;
        let wide = wide(sizes.area as usize, &[x.layout(), dy.layout()]);
        let (x_held, dy_held) = (x.storage_and_layout(), dy.storage_and_layout());
        let (weight_held, bias_held) = (weight.storage_and_layout(), bias.storage_and_layout());
        let (x_view, dy_view) = (view_of::<T>(&x_held)?, view_of::<T>(&dy_held)?);
        let (weight_view, bias_view) = (view_of::<f32>(&weight_held)?, view_of::<f32>(&bias_held)?);

        let planes = sizes.batch * sizes.channels;
        let mut sums = room::<f32>(&device, 2 * planes as usize)?;
        let function = MODULE.function(&device, &kernel::<T>("norm_sums", wide))?;
        let mut launch = function.builder();
        launch.arg(&x_view).arg(&dy_view);
        launch.arg(&weight_view).arg(&bias_view).arg(stats);
        launch.arg(&mut sums);
        launch.arg(&sizes.channels).arg(&sizes.groups);
        launch.arg(&sizes.area).arg(&sizes.swish);
        // SAFETY: the arguments are norm_sums', in its order; the gradient has the shape of x, and `sums` two numbers a plane.
        unsafe { launch.launch(grid((planes, 1), PLANE_THREADS)) }.w()?;

        let mut dx = room::<T>(&device, x.elem_count())?;
        let function = MODULE.function(&device, &kernel::<T>("norm_backward", wide))?;
        let mut launch = function.builder();
        launch.arg(&x_view).arg(&dy_view);
        launch.arg(&weight_view).arg(&bias_view).arg(stats);
        launch.arg(&sums).arg(&mut dx);
        launch.arg(&sizes.channels).arg(&sizes.groups);
        launch.arg(&sizes.area).arg(&sizes.swish);
        let rows = sizes.batch * sizes.groups;
        // SAFETY: the arguments are norm_backward's, in its order; `dx` is as long as x.
        unsafe { launch.launch(grid((rows, 1), ROW_THREADS)) }.w()?;

        let columns = 2 * sizes.channels;
        let channels = sizes.channels as usize;
        let both = fold(&MODULE, &device, &sums, sizes.batch, columns)?;
        let both = tensor(both, &device, (2, channels));
        Ok([tensor(dx, &device, x.shape()), both.get(1)?, both.get(0)?])
    }
}

fn kernel<T: Number>(name: &str, wide: bool) -> String {
    format!("{name}_{}{}", T::SUFFIX, if wide { "_wide" } else { "" })
}

impl CustomOp3 for GroupNorm {
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
        let device = &x.device;
        let (weight, bias) = (view(weight, weight_at)?, view(bias, bias_at)?);
        let y = match x.dtype() {
            DType::F32 => self.forward::<f32>(device, (x, x_at), &weight, &bias)?,
            DType::BF16 => self.forward::<bf16>(device, (x, x_at), &weight, &bias)?,
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
        let [dx, dweight, dbias] = match x.dtype() {
            DType::F32 => self.backward::<f32>(x, weight, bias, dy)?,
            DType::BF16 => self.backward::<bf16>(x, weight, bias, dy)?,
            other => return Err(Error::dtype(NAME, other).into()),
        };
        Ok((Some(dx), Some(dweight), Some(dbias)))
    }
}
