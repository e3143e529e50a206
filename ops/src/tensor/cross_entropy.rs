//! Cross-entropy over a large vocabulary.

use std::sync::Mutex;

use candle_core::{CpuStorage, D, Error, InplaceOp1, Layout, Result, Tensor, bail};

use super::values::on_cpu;

/// The summed cross-entropy of `targets` `[rows]` (u32) with the softmax of `logits` `[rows, vocabulary]` (f32), a scalar without a graph,
/// and its gradient `[rows, vocabulary]`; of the target `smoothing` is spread evenly over the vocabulary. On the CPU the gradient takes the
/// place of the logits, which nothing else may use.
///
/// # Errors
/// Shapes that do not fit; a target that is not below the vocabulary.
pub fn cross_entropy(logits: Tensor, targets: &Tensor, smoothing: f64) -> Result<(Tensor, Tensor)> {
    let (rows, vocabulary) = logits.dims2()?;
    if targets.dims1()? != rows {
        bail!("{rows} rows of logits, {} targets", targets.dims1()?);
    }
    let logits = logits.contiguous()?;
    if on_cpu(&logits) {
        let op = InPlace {
            targets: targets.to_vec1()?,
            smoothing: smoothing as f32,
            sum: Mutex::new(0.0),
        };
        logits.inplace_op1(&op)?;
        let sum = op.sum.into_inner().unwrap_or(f64::NAN);
        return Ok((Tensor::new(sum as f32, logits.device())?, logits));
    }
    let targets = targets.unsqueeze(1)?;
    let greatest = logits.max_keepdim(D::Minus1)?;
    let powers = logits.broadcast_sub(&greatest)?.exp()?;
    let sums = powers.sum_keepdim(D::Minus1)?;
    // log of the sum of exponentials
    let all = (sums.log()? + greatest)?;
    let hit = logits.gather(&targets, D::Minus1)?;
    let rest = 1.0 - smoothing;
    let mut sum = ((&all - hit)?.sum_all()? * rest)?;
    let softmax = powers.broadcast_div(&sums)?;
    let minus = (targets.ones_like()?.to_dtype(logits.dtype())? * -rest)?;
    let mut gradient = softmax.scatter_add(&targets, &minus, D::Minus1)?;
    if smoothing > 0.0 {
        let mean = logits.mean_keepdim(D::Minus1)?;
        sum = (sum + ((all - mean)?.sum_all()? * smoothing)?)?;
        gradient = (gradient - smoothing / vocabulary as f64)?;
    }
    Ok((sum, gradient))
}

struct InPlace {
    targets: Vec<u32>,
    smoothing: f32,
    sum: Mutex<f64>,
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
        let sum = crate::cross_entropy(logits, &self.targets, self.smoothing);
        if let Ok(mut to) = self.sum.lock() {
            *to = sum.map_err(Error::wrap)?;
        }
        Ok(())
    }
}
