//! Passes over the numbers of CPU tensors that change one in place: what candle's operations would do in many passes.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor};

/// Numbers that one task works on. Each is computed by itself, so this changes speed only.
pub(super) const CHUNK: usize = 1 << 14;

/// Changes the values of `target` with those of `source` (same shape, both contiguous f32 on the CPU).
pub(super) fn in_place(
    target: &Tensor,
    source: &Tensor,
    pass: impl FnMut(&mut [f32], &[f32]),
) -> Result<()> {
    if target.shape() != source.shape() {
        candle_core::bail!("shapes {:?} and {:?}", target.shape(), source.shape());
    }
    target.inplace_op2(&source.contiguous()?, &Pass(Mutex::new(pass)))
}

/// A pass that may change more than the target: candle hands its operations only a shared reference to themselves.
struct Pass<F>(Mutex<F>);

impl<F: FnMut(&mut [f32], &[f32])> InplaceOp2 for Pass<F> {
    fn name(&self) -> &'static str {
        "vqlc-in-place"
    }

    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        layout: &Layout,
        source: &CpuStorage,
        source_layout: &Layout,
    ) -> Result<()> {
        let ranges = layout
            .contiguous_offsets()
            .zip(source_layout.contiguous_offsets());
        match (target, source, ranges) {
            (CpuStorage::F32(target), CpuStorage::F32(source), Some(((a, b), (c, d)))) => {
                let mut pass = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                pass(&mut target[a..b], &source[c..d]);
                Ok(())
            }
            _ => candle_core::bail!("expected contiguous f32 tensors"),
        }
    }
}
