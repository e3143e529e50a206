//! Cross-entropy over a large vocabulary.

use std::sync::Mutex;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, Device, Error, InplaceOp1, Layout, Result, Tensor, bail};

/// The summed cross-entropy of `targets` `[rows]` (u32) with the softmax of `logits` `[rows, vocabulary]` (f32), a scalar without a graph,
/// and its gradient `[rows, vocabulary]`, which takes the place of the logits: nothing else may use them. Of the target `smoothing` is spread
/// evenly over the vocabulary.
///
/// # Errors
/// Shapes that do not fit; a target that is not below the vocabulary (on CUDA the sum is NaN then).
pub fn cross_entropy(logits: Tensor, targets: &Tensor, smoothing: f64) -> Result<(Tensor, Tensor)> {
    let (rows, _) = logits.dims2()?;
    if targets.dims1()? != rows {
        bail!("{rows} rows of logits, {} targets", targets.dims1()?);
    }
    let logits = logits.contiguous()?;
    let op = InPlace {
        targets: targets.clone(),
        smoothing: smoothing as f32,
        losses: Mutex::new(None),
    };
    logits.inplace_op1(&op)?;
    match op.losses.into_inner() {
        Ok(Some(losses)) => Ok((losses.sum_all()?, logits)),
        _ => bail!("the cross-entropy left no losses"),
    }
}

struct InPlace {
    targets: Tensor,
    smoothing: f32,
    /// What they are of one row, or of several together.
    losses: Mutex<Option<Tensor>>,
}

impl InPlace {
    fn leave(&self, losses: Tensor) {
        if let Ok(mut to) = self.losses.lock() {
            *to = Some(losses);
        }
    }
}

impl InplaceOp1 for InPlace {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            bail!("expected contiguous f32 logits");
        };
        let logits = &mut values[start..end];
        let targets: Vec<u32> = self.targets.to_vec1()?;
        let sum = crate::cross_entropy(logits, &targets, self.smoothing).map_err(Error::wrap)?;
        self.leave(Tensor::new(sum as f32, &Device::Cpu)?);
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let losses = crate::cuda::cross_entropy(storage, layout, &self.targets, self.smoothing)?;
        self.leave(losses);
        Ok(())
    }
}
