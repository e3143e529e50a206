//! A residual block as one operation.
//!
//! Between its layers there are no gradients of candle's, which are each cleared and added to. Where channels are last, the bias of the
//! first convolution is added by the normalisation behind it, and that of the second with what lies beside. Kept for the backward pass is what
//! the first convolution made; the normalised maps are computed again.

mod block;

use std::sync::OnceLock;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor,
    backend::BackendStorage,
};
use half::bf16;

use super::{Error, kernels::Number};
use crate::tensor::Residual;
use block::{Block, Kept, Part};

const NAME: &str = "residual on CUDA";

/// As [`tensor::residual`](crate::tensor::residual); none where it is not for this: a tensor that is not on CUDA, numbers of channels that
/// fill no packs, or an order that cuDNN does not take.
pub(crate) fn residual(x: &Tensor, block: &Residual<'_>) -> Result<Option<Tensor>> {
    if !x.device().is_cuda() {
        return Ok(None);
    }
    let (order, compute) = (block.maps.order, block.maps.compute);
    let x = x.to_dtype(compute)?.contiguous()?;
    let gradients = x.track_op() || block.parameters().any(Tensor::track_op);
    let Some(block_op) = Block::new(&x, block, gradients)? else {
        return Ok(None);
    };
    // Weights of convolutions as these read them, and numbers by channel.
    let mut parameters = Vec::new();
    for parameter in block.parameters() {
        parameters.push(match parameter.rank() {
            4 => order
                .of_channels_first(&parameter.to_dtype(compute)?)?
                .contiguous()?,
            _ => parameter.to_dtype(DType::F32)?.contiguous()?,
        });
    }
    if !gradients {
        let op = Inference {
            block: block_op,
            parameters,
        };
        return x.apply_op1_no_bwd(&op).map(Some);
    }
    let shapes = parameters.iter().map(|p| p.shape().clone()).collect();
    let flat = |rank: fn(usize) -> bool| {
        let of_rank = parameters.iter().filter(|p| rank(p.rank()));
        let flat: Vec<Tensor> = of_rank.map(Tensor::flatten_all).collect::<Result<_>>()?;
        Tensor::cat(&flat, 0)
    };
    let (numbers, weights) = (flat(|rank| rank == 1)?, flat(|rank| rank == 4)?);
    let op = Training {
        block: block_op,
        shapes,
        kept: OnceLock::new(),
    };
    x.apply_op3(&numbers, &weights, op).map(Some)
}

/// A block whose parameters are known.
struct Inference {
    block: Block,
    parameters: Vec<Tensor>,
}

impl Inference {
    fn forward<T: Number>(&self, x: (&CudaStorage, &Layout)) -> Result<CudaStorage> {
        let held: Vec<_> = self
            .parameters
            .iter()
            .map(Tensor::storage_and_layout)
            .collect();
        let mut parts = Vec::new();
        for (storage, layout) in &held {
            match &**storage {
                Storage::Cuda(storage) => parts.push((storage, (*layout).clone())),
                _ => return Err(Error::on_cpu(NAME).into()),
            }
        }
        let (y, _) = self.block.forward::<T>(x, &parts)?;
        Ok(CudaStorage::wrap_cuda_slice(y, x.0.device.clone()))
    }
}

impl CustomOp1 for Inference {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Err(Error::on_cpu(NAME).into())
    }

    fn cuda_fwd(&self, x: &CudaStorage, x_at: &Layout) -> Result<(CudaStorage, Shape)> {
        let y = match x.dtype() {
            DType::F32 => self.forward::<f32>((x, x_at))?,
            DType::BF16 => self.forward::<bf16>((x, x_at))?,
            other => return Err(Error::dtype(NAME, other).into()),
        };
        Ok((y, self.block.shape()))
    }
}

/// A block with gradients: of x, of the numbers that there are for each channel (f32), and of the convolutions' weights, both one behind the
/// other.
struct Training {
    block: Block,
    /// Of the parameters, in their order.
    shapes: Vec<Shape>,
    kept: OnceLock<Kept>,
}

impl Training {
    /// Each parameter: whether it is a convolution's weight, and where in its row it begins.
    fn places(&self) -> impl Iterator<Item = (bool, usize, &Shape)> {
        let mut begins = [0; 2];
        self.shapes.iter().map(move |shape| {
            let of_weight = shape.rank() == 4;
            let begin = &mut begins[usize::from(of_weight)];
            let here = *begin;
            *begin += shape.elem_count();
            (of_weight, here, shape)
        })
    }

    fn forward<T: Number>(
        &self,
        x: (&CudaStorage, &Layout),
        numbers: (&CudaStorage, &Layout),
        weights: (&CudaStorage, &Layout),
    ) -> Result<CudaStorage> {
        let parts: Vec<Part<'_>> = self
            .places()
            .map(|(of_weight, begin, shape)| {
                let (storage, row) = if of_weight { weights } else { numbers };
                let begin = row.start_offset() + begin;
                (storage, Layout::contiguous_with_offset(shape, begin))
            })
            .collect();
        let (y, kept) = self.block.forward::<T>(x, &parts)?;
        // An operation is applied once, so nothing is there yet.
        let _ = self.kept.set(kept);
        Ok(CudaStorage::wrap_cuda_slice(y, x.0.device.clone()))
    }
}

impl CustomOp3 for Training {
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
        numbers: &CudaStorage,
        numbers_at: &Layout,
        weights: &CudaStorage,
        weights_at: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x, numbers) = ((x, x_at), (numbers, numbers_at));
        let weights = (weights, weights_at);
        let y = match x.0.dtype() {
            DType::F32 => self.forward::<f32>(x, numbers, weights)?,
            DType::BF16 => self.forward::<bf16>(x, numbers, weights)?,
            other => return Err(Error::dtype(NAME, other).into()),
        };
        Ok((y, self.block.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        numbers: &Tensor,
        weights: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let kept = self.kept.get().ok_or_else(Error::no_forward)?;
        let (x, dy) = (x.detach(), dy.detach().contiguous()?);
        let (rows, mut parameters) = ([numbers.detach(), weights.detach()], Vec::new());
        for (of_weight, begin, shape) in self.places() {
            let row = &rows[usize::from(of_weight)];
            let parameter = row.narrow(0, begin, shape.elem_count())?;
            parameters.push(parameter.reshape(shape)?);
        }
        let (dx, gradients) = match x.dtype() {
            DType::F32 => self.block.backward::<f32>(&x, &parameters, kept, &dy)?,
            DType::BF16 => self.block.backward::<bf16>(&x, &parameters, kept, &dy)?,
            other => return Err(Error::dtype(NAME, other).into()),
        };
        let mut flat = [Vec::new(), Vec::new()];
        for ((of_weight, ..), gradient) in self.places().zip(&gradients) {
            flat[usize::from(of_weight)].push(gradient.flatten_all()?);
        }
        let [numbers, weights] = flat;
        let (numbers, weights) = (Tensor::cat(&numbers, 0)?, Tensor::cat(&weights, 0)?);
        Ok((Some(dx), Some(numbers), Some(weights)))
    }
}
