//! Normalisation of maps whose channels come first.

#![allow(unsafe_code)]

use candle_core::{
    CudaDevice, CudaStorage, Layout, Result, Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaSlice, PushKernelArg},
    },
};

use super::{Parameters, Sizes, Stats};
use crate::cuda::kernels::{Module, Number, fold, grid, kernel, room, view, view_of, wide};

const MODULE: Module = Module {
    name: "vqlc_norm",
    source: concat!(
        include_str!("../common.cuh"),
        include_str!("../norm.cuh"),
        include_str!("../norm.cu")
    ),
};
/// As in norm.cu.
const ROW_THREADS: u32 = 512;
const PLANE_THREADS: u32 = 128;

pub(super) fn forward<T: Number>(
    sizes: &Sizes,
    eps: f32,
    (x, x_at): (&CudaStorage, &Layout),
    parameters: Parameters<'_>,
) -> Result<(CudaSlice<T>, Stats)> {
    let device = &x.device;
    let wide = wide(sizes.area as usize, &[x_at]);
    let function = MODULE.function(device, &kernel::<T>("norm_forward", wide))?;
    let x = view::<T>(x, x_at)?;
    let rows = sizes.batch * sizes.groups;
    let mut y = room::<T>(device, x_at.shape().elem_count())?;
    let mut stats = room::<f32>(device, 2 * rows as usize)?;
    let mut launch = function.builder();
    launch.arg(&x).arg(parameters.weight).arg(parameters.bias);
    launch.arg(&mut y).arg(&mut stats);
    launch.arg(&sizes.channels).arg(&sizes.groups);
    launch.arg(&sizes.area).arg(&eps).arg(&sizes.swish);
    // SAFETY: the arguments are norm_forward's, in its order, and the views are as long as `sizes` says: `Norm::check` saw to it.
    unsafe { launch.launch(grid((rows, 1), ROW_THREADS)) }.w()?;
    Ok((y, stats))
}

/// The gradient of x, and those of bias and weight, `[2, c]`.
pub(super) fn backward<T: Number>(
    device: &CudaDevice,
    sizes: &Sizes,
    x: &Tensor,
    parameters: Parameters<'_>,
    stats: &Stats,
    dy: &Tensor,
) -> Result<(CudaSlice<T>, CudaSlice<f32>)> {
    let wide = wide(sizes.area as usize, &[x.layout(), dy.layout()]);
    let count = x.elem_count();
    let (x, dy) = (x.storage_and_layout(), dy.storage_and_layout());
    let (x, dy) = (view_of::<T>(&x)?, view_of::<T>(&dy)?);
    let planes = sizes.batch * sizes.channels;
    let mut sums = room::<f32>(device, 2 * planes as usize)?;
    let function = MODULE.function(device, &kernel::<T>("norm_sums", wide))?;
    let mut launch = function.builder();
    launch.arg(&x).arg(&dy);
    launch.arg(parameters.weight).arg(parameters.bias);
    launch.arg(stats).arg(&mut sums);
    launch.arg(&sizes.channels).arg(&sizes.groups);
    launch.arg(&sizes.area).arg(&sizes.swish);
    // SAFETY: the arguments are norm_sums', in its order; the gradient has the shape of x, and `sums` two numbers a plane.
    unsafe { launch.launch(grid((planes, 1), PLANE_THREADS)) }.w()?;

    let mut dx = room::<T>(device, count)?;
    let function = MODULE.function(device, &kernel::<T>("norm_backward", wide))?;
    let mut launch = function.builder();
    launch.arg(&x).arg(&dy);
    launch.arg(parameters.weight).arg(parameters.bias);
    launch.arg(stats).arg(&sums).arg(&mut dx);
    launch.arg(&sizes.channels).arg(&sizes.groups);
    launch.arg(&sizes.area).arg(&sizes.swish);
    let rows = sizes.batch * sizes.groups;
    // SAFETY: the arguments are norm_backward's, in its order; `dx` is as long as x.
    unsafe { launch.launch(grid((rows, 1), ROW_THREADS)) }.w()?;
    let shape = (sizes.batch, sizes.batch, 2 * sizes.channels);
    Ok((dx, fold(&MODULE, device, &sums, shape)?))
}
