//! The distance of LPIPS between maps whose channels are last.

#![allow(unsafe_code)]

use candle_core::{
    CpuStorage, CudaStorage, CustomOp3, DType, Layout, Result, Shape, Tensor,
    backend::BackendStorage,
    cuda_backend::{WrapErr, cudarc::driver::PushKernelArg},
};
use half::bf16;

use super::{
    Error,
    kernels::{
        Module, Number, counter, device, fold, grid, kernel, pack, room, tensor, view, view_of,
        wide,
    },
};

const NAME: &str = "unit_distances on CUDA";
const MODULE: Module = Module {
    name: "vqlc_distance",
    source: concat!(include_str!("common.cuh"), include_str!("distance.cu")),
};
/// As in distance.cu.
const DISTANCE_THREADS: u32 = 256;

/// As [`tensor::unit_distances`](crate::tensor::unit_distances), of maps (f32 or bf16) on CUDA whose channels are last.
pub(crate) fn unit_distances(a: &Tensor, b: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (.., channels) = a.dims4()?;
    let fits = a.dims() == b.dims() && a.dtype() == b.dtype() && weight.dims() == [channels];
    if !fits || a.elem_count() == 0 {
        return Err(Error::Argument {
            operation: NAME,
            expected: "two maps of one shape and dtype, and a weight for each channel",
            got: format!("{a:?}, {b:?}, {:?}", weight.dims()),
        }
        .into());
    }
    let weight = weight.to_dtype(DType::F32)?.contiguous()?;
    a.contiguous()?
        .apply_op3(&b.contiguous()?, &weight, Distance)
}

struct Distance;

/// The sizes that the kernels count with, and how the work is shared out.
struct Sizes {
    wide: bool,
    batch: u32,
    channels: u32,
    area: u32,
    /// Positions of a block.
    span: u32,
    /// Blocks of a picture.
    chunks: u32,
    /// Threads of a position.
    lanes: u32,
}

impl Sizes {
    fn new<T>(shape: &Shape, layouts: &[&Layout]) -> Result<Self> {
        /// Positions that a thread goes through.
        const EACH: u32 = 16;
        let (batch, height, width, channels) = shape.dims4()?;
        let wide = wide(channels, layouts);
        let packs = channels / pack::<T>(wide);
        let lanes = packs.next_power_of_two().clamp(8, 32) as u32;
        let span = DISTANCE_THREADS / lanes * EACH;
        let area = counter(NAME, "a map", height * width)?;
        let chunks = area.div_ceil(span);
        counter(NAME, "the batch", batch * chunks as usize)?;
        Ok(Self {
            wide,
            batch: batch as u32,
            channels: counter(NAME, "channels", channels)?,
            area,
            span,
            chunks,
            lanes,
        })
    }

    fn blocks(&self) -> (u32, u32) {
        (self.batch * self.chunks, 1)
    }
}

impl Distance {
    fn forward<T: Number>(
        (a, a_at): (&CudaStorage, &Layout),
        (b, b_at): (&CudaStorage, &Layout),
        (weight, weight_at): (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        let device = &a.device;
        let sizes = Sizes::new::<T>(a_at.shape(), &[a_at, b_at])?;
        let (a, b) = (view::<T>(a, a_at)?, view::<T>(b, b_at)?);
        let weight = view::<f32>(weight, weight_at)?;
        let mut parts = room::<f32>(device, sizes.blocks().0 as usize)?;
        let function = MODULE.function(device, &kernel::<T>("distance_forward", sizes.wide))?;
        let mut launch = function.builder();
        launch.arg(&a).arg(&b).arg(&weight).arg(&mut parts);
        launch.arg(&sizes.channels).arg(&sizes.area);
        launch.arg(&sizes.span).arg(&sizes.chunks).arg(&sizes.lanes);
        // SAFETY: the arguments are distance_forward's, in its order; `unit_distances` saw to it that the shapes fit, and `parts` has a
        // place for each block.
        unsafe { launch.launch(grid(sizes.blocks(), DISTANCE_THREADS)) }.w()?;
        let y = fold(&MODULE, device, &parts, (sizes.blocks().0, sizes.chunks, 1))?;
        let y = CudaStorage::wrap_cuda_slice(y, device.clone());
        Ok((y, (sizes.batch as usize).into()))
    }

    fn backward<T: Number>(a: &Tensor, b: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let device = device(NAME, a)?;
        let sizes = Sizes::new::<T>(a.shape(), &[a.layout(), b.layout()])?;
        let (a_held, b_held) = (a.storage_and_layout(), b.storage_and_layout());
        let (weight_held, dy_held) = (weight.storage_and_layout(), dy.storage_and_layout());
        let (a_view, b_view) = (view_of::<T>(&a_held)?, view_of::<T>(&b_held)?);
        let (weight, dy) = (view_of::<f32>(&weight_held)?, view_of::<f32>(&dy_held)?);
        let mut da = room::<T>(&device, a.elem_count())?;
        let function = MODULE.function(&device, &kernel::<T>("distance_backward", sizes.wide))?;
        let mut launch = function.builder();
        launch.arg(&a_view).arg(&b_view).arg(&weight).arg(&dy);
        launch.arg(&mut da);
        launch.arg(&sizes.channels).arg(&sizes.area);
        launch.arg(&sizes.span).arg(&sizes.chunks).arg(&sizes.lanes);
        // SAFETY: the arguments are distance_backward's, in its order; `dy` has a number for each picture, and `da` is as long as `a`.
        unsafe { launch.launch(grid(sizes.blocks(), DISTANCE_THREADS)) }.w()?;
        Ok(tensor(da, &device, a.shape()))
    }
}

impl CustomOp3 for Distance {
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
        a: &CudaStorage,
        a_at: &Layout,
        b: &CudaStorage,
        b_at: &Layout,
        weight: &CudaStorage,
        weight_at: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (a, b, weight) = ((a, a_at), (b, b_at), (weight, weight_at));
        match a.0.dtype() {
            DType::F32 => Self::forward::<f32>(a, b, weight),
            DType::BF16 => Self::forward::<bf16>(a, b, weight),
            other => Err(Error::dtype(NAME, other).into()),
        }
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let da = match a.dtype() {
            DType::F32 => Self::backward::<f32>(a, b, weight, &dy)?,
            DType::BF16 => Self::backward::<bf16>(a, b, weight, &dy)?,
            other => return Err(Error::dtype(NAME, other).into()),
        };
        Ok((Some(da), None, None))
    }
}
