//! The exact nearest table entry of each query, and how far it is.

#![allow(unsafe_code)]

use candle_core::{
    CudaDevice, DType, Result, Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaView, PushKernelArg},
    },
};

use super::kernels::{Module, counter, device, grid, room, tensor, view_of};
use crate::{Error, MAX_DIM, MAX_ENTRIES};

const NAME: &str = "nearest on CUDA";
const MODULE: Module = Module {
    name: "vqlc_nearest",
    source: concat!(include_str!("common.cuh"), include_str!("nearest.cu")),
};
/// As in nearest.cu.
const THREADS: u32 = 128;

/// How a dimension is served, as in nearest.cu.
struct Plan {
    kernel: &'static str,
    /// Queries of a block.
    queries: u32,
    /// What a part of the table is a multiple of.
    tile: u32,
}

impl Plan {
    fn new(dim: u32) -> Self {
        let (kernel, each, tile) = match dim {
            4 => ("nearest_4", 8, 256),
            8 => ("nearest_8", 4, 256),
            16 => ("nearest_16", 2, 256),
            _ => ("nearest_any", 1, 32),
        };
        Self {
            kernel,
            queries: each * THREADS,
            tile,
        }
    }

    /// Entries in each part of a table of `n`, so that blocks enough for a large GPU are at work whatever the number of queries.
    fn part(&self, n: u32, query_blocks: u32) -> u32 {
        const BLOCKS: u32 = 4096;
        let parts = BLOCKS.div_ceil(query_blocks);
        n.div_ceil(parts).div_ceil(self.tile) * self.tile
    }
}

/// As [`tensor::nearest`](crate::tensor::nearest), for both on CUDA. Equal to the bit.
pub(crate) fn nearest(queries: &Tensor, table: &Tensor) -> Result<Tensor> {
    let dim = queries.dim(1)?;
    if dim > MAX_DIM {
        return Err(candle_core::Error::wrap(Error::Dim {
            max: MAX_DIM,
            got: dim,
        }));
    }
    Ok(search(queries, table)?.0)
}

/// Ids `[m]` (u32) and squared distances `[m]` (f32) of the rows of `table` `[n, d]` nearest to the rows of `queries` `[m, d]`, as
/// [`plain::nearest`](crate::plain::nearest) has them; any d.
pub(super) fn search(queries: &Tensor, table: &Tensor) -> Result<(Tensor, Tensor)> {
    let ((m, dim), (n, table_dim)) = (queries.dims2()?, table.dims2()?);
    if dim == 0 || dim != table_dim {
        return Err(super::Error::Argument {
            operation: NAME,
            expected: "queries [m, d] and table [n, d]",
            got: format!("{:?} and {:?}", queries.dims(), table.dims()),
        }
        .into());
    }
    if !(1..=MAX_ENTRIES).contains(&n) {
        return Err(candle_core::Error::wrap(Error::Entries {
            max: MAX_ENTRIES,
            got: n,
        }));
    }
    let device = device(NAME, queries)?;
    if m == 0 {
        let none = |dtype| Tensor::zeros(0, dtype, queries.device());
        return Ok((none(DType::U32)?, none(DType::F32)?));
    }
    let f32s = |t: &Tensor| t.to_dtype(DType::F32)?.contiguous();
    let (queries, table) = (f32s(queries)?, f32s(table)?);
    // The kernels read a table four numbers at a time.
    let table = if table.layout().start_offset().is_multiple_of(4) {
        table
    } else {
        table.copy()?
    };
    let (queries_held, table_held) = (queries.storage_and_layout(), table.storage_and_layout());
    let (queries, table) = (view_of(&queries_held)?, view_of(&table_held)?);
    check_finite(&device, dim, &table, &queries)?;

    let (m, n) = (counter(NAME, "queries", m)?, n as u32);
    let dim = counter(NAME, "a row", dim)?;
    let plan = Plan::new(dim);
    let blocks = m.div_ceil(plan.queries);
    let part = plan.part(n, blocks);
    let parts = n.div_ceil(part);
    let mut best = room::<u64>(&device, m as usize * parts as usize)?;
    let function = MODULE.function(&device, plan.kernel)?;
    let mut launch = function.builder();
    launch.arg(&table).arg(&queries).arg(&mut best);
    launch.arg(&n).arg(&m).arg(&part);
    if plan.kernel == "nearest_any" {
        launch.arg(&dim);
    }
    // SAFETY: the arguments are the kernel's, in its order; table and queries are [n, dim] and [m, dim], `best` is [parts, m], and
    // every part holds an entry.
    unsafe { launch.launch(grid((blocks, parts), THREADS)) }.w()?;

    let (mut ids, mut distances) = (room(&device, m as usize)?, room(&device, m as usize)?);
    let function = MODULE.function(&device, "nearest_join")?;
    let mut launch = function.builder();
    launch.arg(&best).arg(&mut ids).arg(&mut distances);
    launch.arg(&m).arg(&parts);
    // SAFETY: the arguments are nearest_join's, in its order; `best` is [parts, m], and both outputs are [m].
    unsafe { launch.launch(grid((m.div_ceil(THREADS), 1), THREADS)) }.w()?;
    Ok((
        tensor::<u32>(ids, &device, m as usize),
        tensor::<f32>(distances, &device, m as usize),
    ))
}

/// Refuses a NaN or an infinity, as the CPU does.
pub(super) fn check_finite(
    device: &CudaDevice,
    dim: usize,
    table: &CudaView<'_, f32>,
    queries: &CudaView<'_, f32>,
) -> Result<()> {
    const BLOCKS: u64 = 1024;
    let function = MODULE.function(device, "first_not_finite")?;
    let mut found = device.clone_htod(&[u64::MAX; 2])?;
    for (at, values) in [table, queries].into_iter().enumerate() {
        let count = values.len() as u64;
        let blocks = count.div_ceil(THREADS.into()).min(BLOCKS) as u32;
        let mut first = found.slice_mut(at..=at);
        let mut launch = function.builder();
        launch.arg(values).arg(&count).arg(&mut first);
        // SAFETY: the arguments are first_not_finite's, in its order, and `count` is the length of `values`.
        unsafe { launch.launch(grid((blocks, 1), THREADS)) }.w()?;
    }
    let found = device.clone_dtoh(&found)?;
    for (what, values, at) in [("table", table, found[0]), ("queries", queries, found[1])] {
        let Ok(at) = usize::try_from(at) else {
            continue;
        };
        if at >= values.len() {
            continue;
        }
        let value = device.clone_dtoh(&values.slice(at..=at))?[0];
        let got = match value {
            value if value.is_nan() => "NaN",
            value if value > 0.0 => "inf",
            _ => "-inf",
        };
        return Err(candle_core::Error::wrap(Error::NotFinite {
            what,
            row: at / dim,
            column: at % dim,
            got,
        }));
    }
    Ok(())
}
