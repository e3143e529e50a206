//! Loading kernels, and tensors as kernels see them.

#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, CudaStorage, Device, Layout, Result, Shape, Storage, Tensor, WithDType,
    cuda_backend::{
        CudaDType, WrapErr,
        cudarc::{
            cudnn::CudnnDataType,
            driver::{
                CudaFunction, CudaSlice, CudaStream, CudaView, DeviceRepr, LaunchArgs,
                LaunchConfig, PushKernelArg,
            },
            nvrtc::{CompileOptions, compile_ptx_with_opts},
        },
    },
    op::BackpropOp,
};
use half::bf16;

use super::Error;

/// A number that activations are made of.
pub(super) trait Number: CudaDType + CudnnDataType + DeviceRepr + WithDType {
    /// What the names of its kernels end with.
    const SUFFIX: &'static str;
    const ZERO: Self;
    const ONE: Self;
}

impl Number for f32 {
    const SUFFIX: &'static str = "f32";
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
}

impl Number for bf16 {
    const SUFFIX: &'static str = "bf16";
    const ZERO: Self = bf16::ZERO;
    const ONE: Self = bf16::ONE;
}

/// A loaded kernel and where it runs.
pub(super) struct Function {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl Function {
    /// A launch, to be given its arguments.
    pub(super) fn builder(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }
}

/// The kernels of one source file, with `common.cuh` before it.
pub(super) struct Module {
    pub(super) name: &'static str,
    pub(super) source: &'static str,
}

/// PTX by module and compute capability.
type Compiled = HashMap<(&'static str, (i32, i32)), Arc<str>>;

impl Module {
    /// The kernel called `name`, compiled on the first call for a kind of GPU and loaded on the first call for a device.
    pub(super) fn function(&self, device: &CudaDevice, name: &str) -> Result<Function> {
        let ptx = self.ptx(device)?;
        let function = device.get_or_load_custom_func(name, self.name, &ptx)?;
        Ok(Function {
            function: function.into_cuda_function(),
            stream: device.cuda_stream(),
        })
    }

    fn ptx(&self, device: &CudaDevice) -> Result<Arc<str>> {
        static COMPILED: Mutex<Option<Compiled>> = Mutex::new(None);
        let stream = device.cuda_stream();
        let capability = stream.context().compute_capability().w()?;
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = compiled.get_or_insert_default();
        if let Some(ptx) = compiled.get(&(self.name, capability)) {
            return Ok(ptx.clone());
        }
        let (major, minor) = capability;
        let options = CompileOptions {
            options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
            name: Some(format!("{}.cu", self.name)),
            ..CompileOptions::default()
        };
        let ptx = compile_ptx_with_opts(self.source, options).map_err(|source| Error::Compile {
            module: self.name,
            capability: format!("{major}.{minor}"),
            source,
        })?;
        let ptx: Arc<str> = ptx.to_src().into();
        compiled.insert((self.name, capability), ptx.clone());
        Ok(ptx)
    }
}

/// `blocks` of `threads`.
pub(super) fn grid(blocks: (u32, u32), threads: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (blocks.0, blocks.1, 1),
        block_dim: (threads, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// The GPU that `tensor` is on.
pub(super) fn device(operation: &'static str, tensor: &Tensor) -> Result<CudaDevice> {
    match tensor.device() {
        Device::Cuda(device) => Ok(device.clone()),
        other => Err(Error::Argument {
            operation,
            expected: "a tensor on CUDA",
            got: format!("{other:?}"),
        }
        .into()),
    }
}

/// What lies in a contiguous tensor.
pub(super) fn view<'a, T: CudaDType>(
    storage: &'a CudaStorage,
    layout: &Layout,
) -> Result<CudaView<'a, T>> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(storage.as_cuda_slice::<T>()?.slice(from..to)),
        None => Err(candle_core::Error::RequiresContiguous {
            op: "a CUDA kernel",
        }
        .bt()),
    }
}

/// As [`view`], of what [`Tensor::storage_and_layout`] gives.
pub(super) fn view_of<'a, T: CudaDType>(
    (storage, layout): &'a (impl std::ops::Deref<Target = Storage>, &Layout),
) -> Result<CudaView<'a, T>> {
    match &**storage {
        Storage::Cuda(storage) => view(storage, layout),
        other => Err(Error::Argument {
            operation: "a CUDA kernel",
            expected: "a tensor on CUDA",
            got: format!("{:?}", other.device().location()),
        }
        .into()),
    }
}

/// Room for `len` numbers, which are all to be written.
pub(super) fn room<T: DeviceRepr>(device: &CudaDevice, len: usize) -> Result<CudaSlice<T>> {
    // SAFETY: every caller's kernel writes all of it before anything reads it.
    unsafe { device.alloc(len) }
}

/// A tensor without a gradient.
pub(super) fn tensor<T: CudaDType>(
    slice: CudaSlice<T>,
    device: &CudaDevice,
    shape: impl Into<Shape>,
) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(slice, device.clone());
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// `size` for a kernel.
pub(super) fn counter(operation: &'static str, what: &'static str, size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| {
        Error::TooLarge {
            operation,
            what,
            got: size,
        }
        .into()
    })
}

/// Whether numbers that lie in stretches of `len` (the planes of maps, or the channels of a position) can be read in packs of 16 bytes in all
/// of these layouts.
pub(super) fn wide(len: usize, layouts: &[&Layout]) -> bool {
    const PACK: usize = 8;
    len.is_multiple_of(PACK)
        && layouts
            .iter()
            .all(|layout| layout.start_offset().is_multiple_of(PACK))
}

/// Numbers that the kernels of `T` take as one.
pub(super) fn pack<T>(wide: bool) -> usize {
    if wide { 16 / size_of::<T>() } else { 1 }
}

/// The kernel called `name` for `T`.
pub(super) fn kernel<T: Number>(name: &str, wide: bool) -> String {
    format!("{name}_{}{}", T::SUFFIX, if wide { "_wide" } else { "" })
}

/// Rows of `channels` numbers that a block of `threads` goes through so that each thread has work for a while (`Lanes` of common.cuh), but
/// so many of `rows` that there are no more than `most` blocks.
pub(super) fn span(
    threads: usize,
    channels: usize,
    pack: usize,
    rows: usize,
    most: usize,
) -> usize {
    /// So that what a block does once costs little beside it.
    const EACH: usize = 16;
    let lanes = threads / (channels / pack).clamp(1, threads);
    (lanes * EACH).max(rows.div_ceil(most.max(1)))
}

/// Sums `parts` `[rows, columns]` over stretches of `each` rows, in order; gives `[rows / each, columns]`, rounded up.
pub(super) fn fold(
    module: &Module,
    device: &CudaDevice,
    parts: &CudaSlice<f32>,
    (rows, each, columns): (u32, u32, u32),
) -> Result<CudaSlice<f32>> {
    const THREADS: u32 = 64;
    let stretches = rows.div_ceil(each);
    let mut out = room(device, stretches as usize * columns as usize)?;
    let function = module.function(device, "fold")?;
    let mut launch = function.builder();
    launch.arg(parts).arg(&mut out);
    launch.arg(&rows).arg(&each).arg(&columns);
    // SAFETY: the arguments are fold's, in its order; callers give `rows * columns` parts, and `out` has a place for each column of each
    // stretch.
    unsafe { launch.launch(grid((columns.div_ceil(THREADS), stretches), THREADS)) }.w()?;
    Ok(out)
}

/// Sums `parts` `[rows, columns]` over all rows, in an order that depends on nothing but their count.
pub(super) fn fold_all(
    module: &Module,
    device: &CudaDevice,
    mut parts: CudaSlice<f32>,
    mut rows: u32,
    columns: u32,
) -> Result<CudaSlice<f32>> {
    /// A thread adds no more than this many in a row, so that it does not keep the others waiting.
    const EACH: u32 = 64;
    while rows > EACH {
        parts = fold(module, device, &parts, (rows, EACH, columns))?;
        rows = rows.div_ceil(EACH);
    }
    fold(module, device, &parts, (rows, rows, columns))
}
