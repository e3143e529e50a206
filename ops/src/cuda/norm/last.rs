//! Normalisation of maps whose channels are last.

#![allow(unsafe_code)]

use candle_core::{
    CudaDevice, CudaStorage, Layout, Result, Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaSlice, CudaView, LaunchArgs, PushKernelArg},
    },
};

use super::{NAME, Parameters, Sizes, Stats};
use crate::cuda::kernels::{
    Module, Number, counter, fold, fold_all, grid, kernel, pack, room, span, view, view_of, wide,
};

const MODULE: Module = Module {
    name: "vqlc_norm_last",
    source: concat!(
        include_str!("../common.cuh"),
        include_str!("../norm.cuh"),
        include_str!("../norm_last.cu")
    ),
};
/// As in norm_last.cu.
const LAST_THREADS: u32 = 256;
const GROUP_THREADS: u32 = 128;
/// Stands for what is not there.
const NULL: &u64 = &0;

/// How a picture's positions are shared out.
struct Chunks {
    wide: bool,
    /// Positions of a block.
    span: u32,
    /// Blocks of a picture.
    count: u32,
    /// Blocks of the batch.
    all: u32,
}

impl Chunks {
    /// No more than `most` blocks of a picture.
    fn new<T>(sizes: &Sizes, layouts: &[&Layout], most: usize) -> Result<Self> {
        let (channels, area) = (sizes.channels as usize, sizes.area as usize);
        let wide = wide(channels, layouts);
        let span = span(LAST_THREADS as usize, channels, pack::<T>(wide), area, most);
        let count = area.div_ceil(span);
        Ok(Self {
            wide,
            span: counter(NAME, "a map", span)?,
            count: count as u32,
            all: counter(NAME, "the batch", sizes.batch as usize * count)?,
        })
    }
}

/// An argument that need not be there.
fn push<'a, T>(launch: &mut LaunchArgs<'a>, view: Option<&'a CudaView<'a, T>>) {
    match view {
        Some(view) => launch.arg(view),
        None => launch.arg(NULL),
    };
}

pub(super) fn forward<T: Number>(
    sizes: &Sizes,
    eps: f32,
    x: (&CudaStorage, &Layout),
    parameters: Parameters<'_>,
) -> Result<(CudaSlice<T>, Stats)> {
    let stats = moments::<T>(sizes, eps, x, parameters.before)?;
    Ok((apply(sizes, x, parameters, &stats)?, stats))
}

/// Normalises by known statistics.
pub(super) fn apply<T: Number>(
    sizes: &Sizes,
    (x, x_at): (&CudaStorage, &Layout),
    parameters: Parameters<'_>,
    stats: &Stats,
) -> Result<CudaSlice<T>> {
    let device = &x.device;
    let chunks = Chunks::new::<T>(sizes, &[x_at], usize::MAX)?;
    let x = view::<T>(x, x_at)?;
    let mut y = room::<T>(device, x_at.shape().elem_count())?;
    let function = MODULE.function(device, &kernel::<T>("norm_last_forward", chunks.wide))?;
    let mut launch = function.builder();
    launch.arg(&x);
    push(&mut launch, parameters.before);
    launch.arg(stats);
    launch.arg(parameters.weight).arg(parameters.bias);
    launch.arg(&mut y);
    launch.arg(&sizes.channels).arg(&sizes.groups);
    launch.arg(&sizes.area).arg(&chunks.span).arg(&chunks.count);
    launch.arg(&sizes.swish);
    // SAFETY: the arguments are norm_last_forward's, in its order, a null pointer for what is not there, and the views are as long as
    // `sizes` says: `Norm::check` saw to it.
    unsafe { launch.launch(grid((chunks.all, 1), LAST_THREADS)) }.w()?;
    Ok(y)
}

fn moments<T: Number>(
    sizes: &Sizes,
    eps: f32,
    (x, x_at): (&CudaStorage, &Layout),
    before: Option<&CudaView<'_, f32>>,
) -> Result<Stats> {
    let device = &x.device;
    let chunks = Chunks::new::<T>(sizes, &[x_at], usize::MAX)?;
    let x = view::<T>(x, x_at)?;
    let mut parts = room::<f32>(device, 2 * chunks.all as usize * sizes.channels as usize)?;
    let function = MODULE.function(device, &kernel::<T>("norm_last_moments", chunks.wide))?;
    let mut launch = function.builder();
    launch.arg(&x).arg(&mut parts);
    launch.arg(&sizes.channels);
    launch.arg(&sizes.area).arg(&chunks.span).arg(&chunks.count);
    // SAFETY: the arguments are norm_last_moments', in its order; `parts` has two numbers for each channel and block.
    unsafe { launch.launch(grid((chunks.all, 1), LAST_THREADS)) }.w()?;

    let groups = sizes.batch * sizes.groups;
    let mut stats = room::<f32>(device, 2 * groups as usize)?;
    let function = MODULE.function(device, "norm_last_stats")?;
    let mut launch = function.builder();
    launch.arg(&parts);
    push(&mut launch, before);
    launch.arg(&mut stats);
    launch.arg(&sizes.channels).arg(&sizes.groups);
    launch.arg(&sizes.area).arg(&chunks.span).arg(&chunks.count);
    launch.arg(&eps);
    // SAFETY: the arguments are norm_last_stats', in its order, a null pointer for what is not there; `stats` has two numbers a group.
    unsafe { launch.launch(grid((groups, 1), GROUP_THREADS)) }.w()?;
    Ok(stats)
}

/// The gradient of x, to which `beside` is added, and those of bias and weight, `[2, c]`.
pub(super) fn backward<T: Number>(
    device: &CudaDevice,
    sizes: &Sizes,
    x: &Tensor,
    parameters: Parameters<'_>,
    stats: &Stats,
    dy: &Tensor,
    beside: Option<&Tensor>,
) -> Result<(CudaSlice<T>, CudaSlice<f32>)> {
    /// Enough blocks of a batch to fill any GPU.
    const BLOCKS: usize = 1 << 11;
    /// Of a picture: so many that few pictures fill a GPU too, and so few that one thread can add what they leave.
    const OF_PICTURE: (usize, usize) = (32, 256);
    let mut layouts = vec![x.layout(), dy.layout()];
    layouts.extend(beside.map(Tensor::layout));
    let most = match sizes.batch as usize {
        1 => BLOCKS,
        batch => (BLOCKS / batch).clamp(OF_PICTURE.0, OF_PICTURE.1),
    };
    let chunks = Chunks::new::<T>(sizes, &layouts, most)?;
    let count = x.elem_count();
    let columns = 2 * sizes.channels;
    let held = beside.map(Tensor::storage_and_layout);
    let beside = held.as_ref().map(view_of::<T>).transpose()?;
    let (x, dy) = (x.storage_and_layout(), dy.storage_and_layout());
    let (x, dy) = (view_of::<T>(&x)?, view_of::<T>(&dy)?);
    let mut parts = room::<f32>(device, chunks.all as usize * columns as usize)?;
    let function = MODULE.function(device, &kernel::<T>("norm_last_sums", chunks.wide))?;
    let mut launch = function.builder();
    launch.arg(&x);
    push(&mut launch, parameters.before);
    launch.arg(&dy).arg(stats);
    launch.arg(parameters.weight).arg(parameters.bias);
    launch.arg(&mut parts);
    launch.arg(&sizes.channels).arg(&sizes.groups);
    launch.arg(&sizes.area).arg(&chunks.span).arg(&chunks.count);
    launch.arg(&sizes.swish);
    // SAFETY: the arguments are norm_last_sums', in its order, a null pointer for what is not there; the gradient has the shape of x, and
    // `parts` two numbers for each channel and block.
    unsafe { launch.launch(grid((chunks.all, 1), LAST_THREADS)) }.w()?;
    let sums = match sizes.batch {
        1 => fold_all(&MODULE, device, parts, chunks.count, columns)?,
        _ => fold(&MODULE, device, &parts, (chunks.all, chunks.count, columns))?,
    };

    // No sums are taken in what follows, so that a picture may be in as many blocks as it fills.
    let chunks = Chunks::new::<T>(sizes, &layouts, usize::MAX)?;
    let mut dx = room::<T>(device, count)?;
    let function = MODULE.function(device, &kernel::<T>("norm_last_backward", chunks.wide))?;
    let mut launch = function.builder();
    launch.arg(&x);
    push(&mut launch, parameters.before);
    launch.arg(&dy).arg(stats);
    launch.arg(parameters.weight).arg(parameters.bias);
    launch.arg(&sums);
    push(&mut launch, beside.as_ref());
    launch.arg(&mut dx);
    launch.arg(&sizes.channels).arg(&sizes.groups);
    launch.arg(&sizes.area).arg(&chunks.span).arg(&chunks.count);
    launch.arg(&sizes.swish);
    // SAFETY: the arguments are norm_last_backward's, in its order, a null pointer for what is not there; `dx` and what is beside it are as
    // long as x.
    unsafe { launch.launch(grid((chunks.all, 1), LAST_THREADS)) }.w()?;
    let both = fold(&MODULE, device, &sums, (sizes.batch, sizes.batch, columns))?;
    Ok((dx, both))
}
