//! Operations on each number by itself.

use candle_core::{Result, Tensor};

/// `a + b`, of one shape.
///
/// # Errors
/// Shapes that differ; a tensor operation's.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a + b
}

/// `min(max(x, 0), 6)`; the gradient is 1 strictly between, else 0.
///
/// # Errors
/// A tensor operation's.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::small(x, crate::cuda::Small::Relu6);
    }
    x.clamp(0f32, 6f32)
}

/// `x` where it is positive, else `slope * x`.
///
/// # Errors
/// A tensor operation's.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::small(x, crate::cuda::Small::LeakyRelu(slope as f32));
    }
    (x.relu()? * (1.0 - slope))? + (x * slope)?
}
