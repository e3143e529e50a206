//! What is added to a convolution's output, and the gradient of its bias.

#![allow(unsafe_code)]

use candle_core::{
    CudaDevice, Layout, Result, Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaSlice, CudaView, PushKernelArg},
    },
};

use crate::{
    cuda::kernels::{
        Module, Number, counter, device, fold_all, grid, kernel, pack, room, span, tensor, view_of,
        wide,
    },
    tensor::Order,
};

const MODULE: Module = Module {
    name: "vqlc_conv",
    source: concat!(include_str!("../common.cuh"), include_str!("../conv.cu")),
};
/// As in conv.cu.
const SUM_THREADS: u32 = 128;
const COLUMN_THREADS: u32 = 256;

/// Adds to `y`, which has this shape `[b, c, h, w]` and lies in `order`, the bias `[c]` and, if given, `beside`, which lies likewise.
pub(crate) fn add<T: Number>(
    device: &CudaDevice,
    y: &mut CudaSlice<T>,
    [_, channels, height, width]: [usize; 4],
    order: Order,
    bias: &CudaView<'_, f32>,
    beside: Option<(CudaView<'_, T>, &Layout)>,
) -> Result<()> {
    const THREADS: u32 = 256;
    /// Enough to fill any GPU; each thread goes on by steps of the whole grid.
    const BLOCKS: u64 = 1 << 12;
    let area = height * width;
    let (name, stretch) = match order {
        Order::ChannelsFirst => ("bias_add", area),
        Order::ChannelsLast => ("bias_add_last", channels),
    };
    let layouts: Vec<&Layout> = beside.iter().map(|(_, layout)| *layout).collect();
    let wide = wide(stretch, &layouts);
    let packs = (y.len() / pack::<T>(wide)) as u64;
    let blocks = packs.div_ceil(u64::from(THREADS)).min(BLOCKS) as u32;
    let (channels, area) = (
        counter(super::NAME, "outputs", channels)?,
        counter(super::NAME, "a map", area)?,
    );
    let function = MODULE.function(device, &kernel::<T>(name, wide))?;
    let nothing = 0_u64;
    let mut launch = function.builder();
    launch.arg(y).arg(bias);
    match &beside {
        Some((beside, _)) => launch.arg(beside),
        None => launch.arg(&nothing),
    };
    launch.arg(&packs).arg(&channels).arg(&area);
    // SAFETY: the arguments are bias_add's, in its order, a null pointer for what is not there; `packs` covers y exactly, what is beside it
    // is as long, and the bias has a number for each channel.
    unsafe { launch.launch(grid((blocks, 1), THREADS)) }.w()?;
    Ok(())
}

/// The gradient of the bias, `[c]`, from that of the output, `dy` of shape `[b, c, h, w]` that lies in `order`.
pub(crate) fn gradient<T: Number>(
    dy: &Tensor,
    [batch, channels, height, width]: [usize; 4],
    order: Order,
) -> Result<Tensor> {
    let device = device(super::NAME, dy)?;
    let area = height * width;
    let held = dy.storage_and_layout();
    let view = view_of::<T>(&held)?;
    let columns = counter(super::NAME, "outputs", channels)?;
    let (parts, count) = match order {
        Order::ChannelsFirst => {
            let planes = counter(super::NAME, "the batch", batch * channels)?;
            let wide = wide(area, &[dy.layout()]);
            let area = counter(super::NAME, "a map", area)?;
            let mut sums = room::<f32>(&device, batch * channels)?;
            let function = MODULE.function(&device, &kernel::<T>("plane_sums", wide))?;
            let mut launch = function.builder();
            launch.arg(&view).arg(&mut sums).arg(&area);
            // SAFETY: the arguments are plane_sums', in its order; dy has `planes` planes of `area`, and `sums` a place for each.
            unsafe { launch.launch(grid((planes, 1), SUM_THREADS)) }.w()?;
            (sums, batch as u32)
        }
        Order::ChannelsLast => {
            /// Enough to fill any GPU.
            const BLOCKS: usize = 1 << 11;
            let wide = wide(channels, &[dy.layout()]);
            let rows = batch * area;
            let span = span(
                COLUMN_THREADS as usize,
                channels,
                pack::<T>(wide),
                rows,
                BLOCKS,
            );
            let chunks = rows.div_ceil(span);
            let rows = counter(super::NAME, "the batch", rows)?;
            let span = span as u32;
            let mut parts = room::<f32>(&device, chunks * channels)?;
            let function = MODULE.function(&device, &kernel::<T>("column_sums", wide))?;
            let mut launch = function.builder();
            launch.arg(&view).arg(&mut parts);
            launch.arg(&columns).arg(&rows).arg(&span);
            // SAFETY: the arguments are column_sums', in its order; dy has `rows` rows of `columns`, and `parts` a row for each block.
            unsafe { launch.launch(grid((chunks as u32, 1), COLUMN_THREADS)) }.w()?;
            (parts, chunks as u32)
        }
    };
    let sum = fold_all(&MODULE, &device, parts, count, columns)?;
    Ok(tensor(sum, &device, channels))
}
