//! Numbers on their way to a device and back.

use std::borrow::Cow;

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::{CudaDType, cudarc::driver::DeviceRepr};
use candle_core::{Device, Result, Shape, Tensor, WithDType};

/// A kind of number that batches are made of.
#[cfg(not(feature = "cuda"))]
pub trait Number: WithDType {}

/// A kind of number that batches are made of.
#[cfg(feature = "cuda")]
pub trait Number: WithDType + CudaDType + DeviceRepr {}

impl Number for f32 {}
impl Number for u32 {}

/// A tensor of `values`, row-major, on `device`. On CUDA they go through pinned memory: this thread goes on as soon as they lie there, and
/// they are copied while the GPU works on what it was asked for before.
///
/// # Errors
/// A shape of another size; no room.
pub fn upload<'a, T: Number>(
    values: impl Into<Cow<'a, [T]>>,
    shape: impl Into<Shape>,
    device: &Device,
) -> Result<Tensor> {
    let (values, shape) = (values.into(), shape.into());
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return crate::cuda::upload(&values, shape, device);
    }
    match values {
        Cow::Borrowed(values) => Tensor::from_slice(values, shape, device),
        Cow::Owned(values) => Tensor::from_vec(values, shape, device),
    }
}

/// The numbers of `x` (f32), row-major. On CUDA they come through pinned memory, while the GPU goes on with what other threads ask of it.
///
/// # Errors
/// Another dtype; no room.
pub fn download(x: &Tensor) -> Result<Vec<f32>> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::download(x);
    }
    x.flatten_all()?.to_vec1()
}
