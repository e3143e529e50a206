//! Operations on rows of f32 numbers, and cross-entropy in place.

#![allow(unsafe_code)]

use candle_core::{
    CudaDevice, CudaStorage, Layout, Result, Tensor,
    backend::BackendStorage,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaView, PushKernelArg},
    },
};

use super::kernels::{Function, Module, counter, grid, room, tensor, view, view_of};
use crate::rows::Rows;

const NAME: &str = "rows";
const MODULE: Module = Module {
    name: "vqlc_rows",
    source: concat!(include_str!("common.cuh"), include_str!("rows.cu")),
};
const THREADS: u32 = 256;
/// Rows of a block.
const ROWS: u64 = 8;
/// Threads of a row as long as a vocabulary.
const WIDE: u32 = 512;

/// A contiguous tensor on CUDA.
pub(crate) type Part<'a> = (&'a CudaStorage, &'a Layout);

/// Applies `how` to rows of `length` numbers.
pub(crate) fn rows_forward(how: Rows, length: usize, (x, x_at): Part<'_>) -> Result<CudaStorage> {
    let run = Run::new(how, length, x.device(), x_at)?;
    let x = view::<f32>(x, x_at)?;
    let function = run.function(match how {
        Rows::Softmax { .. } => "softmax_forward",
        Rows::Standardise { .. } => "standardise_forward",
        Rows::Gelu { .. } => "gelu_forward",
    })?;
    run.launch(&function, &[&x], true)
}

/// The gradient of `x`, given that of `y`, which [`rows_forward`] made of it.
pub(crate) fn rows_backward(
    how: Rows,
    length: usize,
    (x, x_at): Part<'_>,
    (y, y_at): Part<'_>,
    (grad, grad_at): Part<'_>,
) -> Result<CudaStorage> {
    let run = Run::new(how, length, x.device(), x_at)?;
    let grad = view::<f32>(grad, grad_at)?;
    let (name, (from, from_at)) = match how {
        Rows::Softmax { .. } => ("softmax_backward", (y, y_at)),
        Rows::Standardise { .. } => ("standardise_backward", (x, x_at)),
        Rows::Gelu { .. } => ("gelu_backward", (x, x_at)),
    };
    let from = view::<f32>(from, from_at)?;
    run.launch(&run.function(name)?, &[&from, &grad], false)
}

/// What a kernel runs over.
struct Run<'a> {
    how: Rows,
    device: &'a CudaDevice,
    /// Of the tensor.
    count: u64,
    rows: u64,
    length: u32,
    blocks: u32,
}

impl<'a> Run<'a> {
    fn new(how: Rows, length: usize, device: &'a CudaDevice, at: &Layout) -> Result<Self> {
        let count = at.shape().elem_count() as u64;
        let rows = count / length as u64;
        let blocks = match how {
            Rows::Gelu { .. } => count.div_ceil(THREADS.into()),
            _ => rows.div_ceil(ROWS),
        };
        Ok(Self {
            how,
            device,
            count,
            rows,
            length: counter(NAME, "a row", length)?,
            blocks: counter(NAME, "the tensor", blocks as usize)?,
        })
    }

    fn function(&self, name: &str) -> Result<Function> {
        MODULE.function(self.device, name)
    }

    /// Launches a kernel from `inputs` to a tensor of their size.
    fn launch(
        &self,
        function: &Function,
        inputs: &[&CudaView<'_, f32>],
        forward: bool,
    ) -> Result<CudaStorage> {
        let mut out = room::<f32>(self.device, self.count as usize)?;
        if self.count == 0 {
            return Ok(CudaStorage::wrap_cuda_slice(out, self.device.clone()));
        }
        let mut launch = function.builder();
        for input in inputs {
            launch.arg(*input);
        }
        launch.arg(&mut out);
        // What follows in the kernels' lists of arguments. A block of rows is no longer than its rows.
        let flag = match self.how {
            Rows::Softmax { causal, .. } => causal.unwrap_or(0) as u32,
            Rows::Gelu { tanh } => tanh.into(),
            Rows::Standardise { .. } => 0,
        };
        match &self.how {
            Rows::Softmax { scale, .. } => {
                launch.arg(&self.rows).arg(&self.length).arg(scale);
                if forward {
                    launch.arg(&flag);
                }
            }
            Rows::Standardise { eps } => {
                launch.arg(&self.rows).arg(&self.length).arg(eps);
            }
            Rows::Gelu { .. } => {
                launch.arg(&self.count).arg(&flag);
            }
        }
        // SAFETY: the arguments are those of the kernel that `how` and `forward` name, in its order; all tensors have the same shape.
        unsafe { launch.launch(grid((self.blocks, 1), THREADS)) }.w()?;
        Ok(CudaStorage::wrap_cuda_slice(out, self.device.clone()))
    }
}

/// [`tensor::cross_entropy`](crate::tensor::cross_entropy) of contiguous `logits` `[rows, vocabulary]`, whose place the gradient takes: the
/// losses `[rows]`, NaN for a target that is not below the vocabulary.
pub(crate) fn cross_entropy(
    logits: &mut CudaStorage,
    logits_at: &Layout,
    targets: &Tensor,
    smoothing: f32,
) -> Result<Tensor> {
    let device = logits.device().clone();
    let (rows, vocabulary) = logits_at.shape().dims2()?;
    let length = counter(NAME, "the vocabulary", vocabulary)?;
    let blocks = counter(NAME, "rows", rows)?;
    let targets = targets.contiguous()?;
    let targets_held = targets.storage_and_layout();
    let targets = view_of::<u32>(&targets_held)?;
    let (from, to) = logits_at
        .contiguous_offsets()
        .ok_or(candle_core::Error::RequiresContiguous { op: NAME })?;
    let mut losses = room::<f32>(&device, rows)?;
    if rows > 0 {
        let mut values = logits.as_cuda_slice_mut::<f32>()?.slice_mut(from..to);
        let function = MODULE.function(&device, "cross_entropy")?;
        let mut launch = function.builder();
        launch.arg(&mut values).arg(&targets).arg(&mut losses);
        launch.arg(&length).arg(&smoothing);
        // SAFETY: the arguments are cross_entropy's, in its order; there is a target and a place in `losses` for each row.
        unsafe { launch.launch(grid((blocks, 1), WIDE)) }.w()?;
    }
    Ok(tensor(losses, &device, rows))
}
