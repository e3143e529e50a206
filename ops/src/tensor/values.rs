//! The numbers of tensors on the CPU.

use candle_core::{CpuStorage, DType, Layout, Result, Storage, StorageRef, Tensor, bail};

/// A tensor that the CPU's operations take.
pub(super) fn on_cpu(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The numbers of a contiguous f32 tensor.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("expected a contiguous f32 tensor"),
    }
}

/// A tensor's numbers, held for reading.
pub(super) struct Values<'a>(StorageRef<'a>, &'a Layout);

impl<'a> Values<'a> {
    pub(super) fn of(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self(storage, layout)
    }

    pub(super) fn slice(&self) -> Result<&[f32]> {
        match &*self.0 {
            Storage::Cpu(storage) => slice(storage, self.1),
            _ => bail!("expected a tensor on the CPU"),
        }
    }
}
