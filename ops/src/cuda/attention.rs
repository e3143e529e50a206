//! Attention whose weights are never all in memory.

#![allow(unsafe_code)]

use std::sync::OnceLock;

use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor,
    backend::BackendStorage,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaSlice, CudaView, DeviceRepr, PushKernelArg},
    },
};
use half::bf16;

use super::{
    Error,
    kernels::{Module, counter, device, grid, room, tensor, view_of},
};

const NAME: &str = "attention";
const THREADS: u32 = 128;
/// Rows of a block, and queries of a block of `attention_dots`.
const ROWS: u32 = 64;
const DOTS: u32 = 4;
/// The most blocks of rows.
const MAX_BLOCKS: usize = 65_535;
/// Numbers that are read at once: what strides are multiples of.
const PACK: usize = 8;

macro_rules! module {
    ($dim:literal) => {
        Module {
            name: concat!("vqlc_attention_", $dim),
            source: concat!(
                "#define DIM ",
                $dim,
                "\n",
                include_str!("common.cuh"),
                include_str!("tensor_core.cuh"),
                include_str!("attention.cu")
            ),
        }
    };
}

/// By the most numbers of a head that they hold.
const MODULES: [(usize, Module); 4] = [
    (32, module!("32")),
    (64, module!("64")),
    (96, module!("96")),
    (128, module!("128")),
];

/// [`tensor::attention`](crate::tensor::attention), where the tensors are such as the kernels take; its shapes have been checked.
pub(crate) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    causal: bool,
) -> Result<Option<Tensor>> {
    let (_, _, queries, side) = query.dims4()?;
    let blocks = queries.max(key.dim(2)?).div_ceil(DOTS as usize);
    let served = [query, key, value]
        .iter()
        .all(|x| x.device().is_cuda() && x.dtype() == DType::BF16 && x.elem_count() > 0)
        && side.is_multiple_of(PACK)
        && blocks <= MAX_BLOCKS;
    let module = MODULES.iter().find(|(most, _)| served && side <= *most);
    let Some((_, module)) = module else {
        return Ok(None);
    };
    let [query, key, value] = [aligned(query)?, aligned(key)?, aligned(value)?];
    let attention = Attention {
        module,
        causal,
        logs: OnceLock::new(),
    };
    query.apply_op3(&key, &value, attention).map(Some)
}

/// With rows that are contiguous and begin where packs do.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let layout = x.layout();
    let mut steps = layout.stride()[..layout.dims().len() - 1].iter();
    let packs = layout.stride().last() == Some(&1)
        && steps.all(|step| step.is_multiple_of(PACK))
        && layout.start_offset().is_multiple_of(PACK);
    if packs {
        Ok(x.clone())
    } else {
        x.force_contiguous()
    }
}

struct Attention {
    module: &'static Module,
    causal: bool,
    /// Of the sums of each query's weights: left by the forward pass for the backward pass.
    logs: OnceLock<CudaSlice<f32>>,
}

/// `Strides` of the kernels, in numbers.
#[repr(C)]
#[derive(Clone, Copy)]
struct Strides {
    batch: u64,
    head: u64,
    row: u64,
}

// SAFETY: it is laid out as the kernels' struct of three u64 is.
unsafe impl DeviceRepr for Strides {}

impl Strides {
    fn of(layout: &Layout) -> Self {
        let stride = |dim: usize| layout.stride()[dim] as u64;
        Self {
            batch: stride(0),
            head: stride(1),
            row: stride(2),
        }
    }
}

/// `Sizes` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sizes {
    heads: u32,
    queries: u32,
    keys: u32,
    dim: u32,
    causal: u32,
    scale: f32,
    scale2: f32,
}

// SAFETY: it is laid out as the kernels' struct of five u32 and two floats is.
unsafe impl DeviceRepr for Sizes {}

/// What the kernels run over.
struct Counts {
    sizes: Sizes,
    batch: usize,
    /// Pairs of picture and head.
    pairs: u32,
}

impl Counts {
    fn new(query: &Layout, key: &Layout, causal: bool) -> Result<Self> {
        let (batch, heads, queries, dim) = query.shape().dims4()?;
        let scale = (dim as f64).powf(-0.5);
        let sizes = Sizes {
            heads: counter(NAME, "heads", heads)?,
            queries: counter(NAME, "queries", queries)?,
            keys: counter(NAME, "keys", key.dims()[2])?,
            dim: counter(NAME, "a head", dim)?,
            causal: causal.into(),
            scale: scale as f32,
            scale2: (scale * std::f64::consts::LOG2_E) as f32,
        };
        let pairs = counter(NAME, "the batch", batch * heads)?;
        Ok(Self {
            sizes,
            batch,
            pairs,
        })
    }

    fn blocks(&self, rows: u32, of: u32) -> (u32, u32) {
        (self.pairs, rows.div_ceil(of))
    }

    /// How many numbers `[batch, rows, heads, dim]` has.
    fn numbers(&self, rows: u32) -> usize {
        self.pairs as usize * rows as usize * self.sizes.dim as usize
    }

    /// `numbers` `[batch, rows, heads, dim]` as `[batch, heads, rows, dim]`.
    fn by_head(&self, numbers: CudaSlice<bf16>, rows: u32, device: &CudaDevice) -> Result<Tensor> {
        let Sizes { heads, dim, .. } = self.sizes;
        let shape = (self.batch, rows as usize, heads as usize, dim as usize);
        tensor(numbers, device, shape).transpose(1, 2)
    }
}

/// From a tensor's first number on; what lies behind it is as its strides say.
fn strided<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, bf16>> {
    Ok(storage
        .as_cuda_slice::<bf16>()?
        .slice(layout.start_offset()..))
}

/// As [`strided`], of what [`Tensor::storage_and_layout`] gives.
fn strided_of<'a>(
    (storage, layout): &'a (impl std::ops::Deref<Target = Storage>, &Layout),
) -> Result<CudaView<'a, bf16>> {
    match &**storage {
        Storage::Cuda(storage) => strided(storage, layout),
        _ => Err(Error::on_cpu(NAME).into()),
    }
}

impl Attention {
    /// Gradients of query, key and value.
    fn gradients(
        &self,
        [query, key, value]: [&Tensor; 3],
        out: &Tensor,
        dout: &Tensor,
    ) -> Result<[Tensor; 3]> {
        let device = device(NAME, query)?;
        let logs = self.logs.get().ok_or_else(|| Error::Argument {
            operation: NAME,
            expected: "a forward pass before the backward pass",
            got: "none".into(),
        })?;
        let dout = aligned(&dout.contiguous()?)?;
        let counts = Counts::new(query.layout(), key.layout(), self.causal)?;
        let sizes = counts.sizes;
        let [q_at, k_at, v_at] = [query, key, value].map(|x| Strides::of(x.layout()));
        let (query, key, value) = (
            query.storage_and_layout(),
            key.storage_and_layout(),
            value.storage_and_layout(),
        );
        let (out, dout) = (out.storage_and_layout(), dout.storage_and_layout());
        let (q, k, v) = (strided_of(&query)?, strided_of(&key)?, strided_of(&value)?);
        let (out, dout) = (view_of::<bf16>(&out)?, view_of::<bf16>(&dout)?);

        let mut dots = room::<f32>(&device, counts.pairs as usize * sizes.queries as usize)?;
        let function = self.module.function(&device, "attention_dots")?;
        let mut launch = function.builder();
        launch.arg(&out).arg(&dout).arg(&mut dots).arg(&sizes);
        let blocks = counts.blocks(sizes.queries, DOTS);
        // SAFETY: the arguments are attention_dots', in its order; output and gradient have a row, and `dots` a place, for each query.
        unsafe { launch.launch(grid(blocks, THREADS)) }.w()?;

        let mut dq = room::<bf16>(&device, counts.numbers(sizes.queries))?;
        let function = self.module.function(&device, "attention_queries")?;
        let mut launch = function.builder();
        launch.arg(&q).arg(&k).arg(&v).arg(&dout);
        launch.arg(logs).arg(&dots).arg(&mut dq);
        launch.arg(&q_at).arg(&k_at).arg(&v_at).arg(&sizes);
        let blocks = counts.blocks(sizes.queries, ROWS);
        // SAFETY: the arguments are attention_queries', in its order; strides are those of the views, `dq` is as long as query.
        unsafe { launch.launch(grid(blocks, THREADS)) }.w()?;

        let mut dk = room::<bf16>(&device, counts.numbers(sizes.keys))?;
        let mut dv = room::<bf16>(&device, counts.numbers(sizes.keys))?;
        let function = self.module.function(&device, "attention_keys")?;
        let mut launch = function.builder();
        launch.arg(&q).arg(&k).arg(&v).arg(&dout);
        launch.arg(logs).arg(&dots).arg(&mut dk).arg(&mut dv);
        launch.arg(&q_at).arg(&k_at).arg(&v_at).arg(&sizes);
        let blocks = counts.blocks(sizes.keys, ROWS);
        // SAFETY: the arguments are attention_keys', in its order; strides are those of the views, `dk` and `dv` are as long as key.
        unsafe { launch.launch(grid(blocks, THREADS)) }.w()?;

        Ok([
            counts.by_head(dq, sizes.queries, &device)?,
            counts.by_head(dk, sizes.keys, &device)?,
            counts.by_head(dv, sizes.keys, &device)?,
        ])
    }
}

impl CustomOp3 for Attention {
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
        query: &CudaStorage,
        query_at: &Layout,
        key: &CudaStorage,
        key_at: &Layout,
        value: &CudaStorage,
        value_at: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let device = query.device();
        let counts = Counts::new(query_at, key_at, self.causal)?;
        let sizes = counts.sizes;
        let (q_at, k_at, v_at) = (
            Strides::of(query_at),
            Strides::of(key_at),
            Strides::of(value_at),
        );
        let (q, k, v) = (
            strided(query, query_at)?,
            strided(key, key_at)?,
            strided(value, value_at)?,
        );
        let mut out = room::<bf16>(device, counts.numbers(sizes.queries))?;
        let mut logs = room::<f32>(device, counts.pairs as usize * sizes.queries as usize)?;
        let function = self.module.function(device, "attention_forward")?;
        let mut launch = function.builder();
        launch.arg(&q).arg(&k).arg(&v);
        launch.arg(&mut out).arg(&mut logs);
        launch.arg(&q_at).arg(&k_at).arg(&v_at).arg(&sizes);
        let blocks = counts.blocks(sizes.queries, ROWS);
        // SAFETY: the arguments are attention_forward's, in its order; strides are those of the views, whose shapes `attention` in
        // `tensor` checked, and `out` and `logs` have a row and a place for each query.
        unsafe { launch.launch(grid(blocks, THREADS)) }.w()?;
        // An operation is applied once, so nothing is there yet.
        let _ = self.logs.set(logs);
        let width = sizes.heads as usize * sizes.dim as usize;
        let shape = (counts.batch, sizes.queries as usize, width);
        Ok((
            CudaStorage::wrap_cuda_slice(out, device.clone()),
            shape.into(),
        ))
    }

    fn bwd(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        out: &Tensor,
        dout: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dq, dk, dv] = self.gradients([query, key, value], out, dout)?;
        Ok((Some(dq), Some(dk), Some(dv)))
    }
}
