//! Operations on each number by itself. On the CPU in one pass: candle's own pass several times and wait for all threads at each.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::values::{on_cpu, slice};

/// Numbers that one thread goes through at a time.
const CHUNK: usize = 1 << 14;

/// `a + b`, of one shape.
///
/// # Errors
/// Shapes that differ; a tensor operation's.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if on_cpu(a) && on_cpu(b) {
        return a
            .contiguous()?
            .apply_op2(&b.contiguous()?, Pairs(|a, b| a + b));
    }
    a + b
}

/// `min(max(x, 0), 6)`; the gradient is 1 strictly between, else 0.
///
/// # Errors
/// A tensor operation's.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    if on_cpu(x) {
        let value = |x: f32| x.clamp(0.0, 6.0);
        let gradient = |x: f32, g: f32| if x > 0.0 && x < 6.0 { g } else { 0.0 };
        return x.contiguous()?.apply_op1(Each { value, gradient });
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::small(x, crate::cuda::Small::Relu6);
    }
    x.clamp(0f32, 6f32)
}

/// `max(x, 0)`, and NaN where `x` is; the gradient is 1 where `x` is positive, else 0, as PyTorch has it (candle's is 1 at 0 too, and takes
/// more passes).
///
/// # Errors
/// A tensor operation's.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if on_cpu(x) {
        let value = |x: f32| if x < 0.0 { 0.0 } else { x };
        let gradient = |x: f32, g: f32| if x > 0.0 { g } else { 0.0 };
        return x.contiguous()?.apply_op1(Each { value, gradient });
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::small(x, crate::cuda::Small::Relu);
    }
    x.relu()
}

/// `x` where it is positive, else `slope * x`.
///
/// # Errors
/// A tensor operation's.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    if on_cpu(x) {
        let slope = slope as f32;
        let value = move |x: f32| if x > 0.0 { x } else { slope * x };
        let gradient = move |x: f32, g: f32| if x > 0.0 { g } else { slope * g };
        return x.contiguous()?.apply_op1(Each { value, gradient });
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::small(x, crate::cuda::Small::LeakyRelu(slope as f32));
    }
    (x.relu()? * (1.0 - slope))? + (x * slope)?
}

/// A function of one number, and its gradient of that number and the result's gradient.
struct Each<F, G> {
    value: F,
    gradient: G,
}

impl<F, G> CustomOp1 for Each<F, G>
where
    F: Fn(f32) -> f32 + Sync,
    G: Fn(f32, f32) -> f32 + Copy + Sync,
{
    fn name(&self) -> &'static str {
        "vqlc-each"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = slice(storage, layout)?;
        let mut output = vec![0.0; input.len()];
        output
            .par_chunks_mut(CHUNK)
            .zip(input.par_chunks(CHUNK))
            .for_each(|(output, input)| {
                for (y, &x) in output.iter_mut().zip(input) {
                    *y = (self.value)(x);
                }
            });
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(&gradient.contiguous()?, &Pairs(self.gradient))
            .map(Some)
    }
}

/// A function of two numbers. Where it is differentiated it is their sum.
struct Pairs<F>(F);

impl<F: Fn(f32, f32) -> f32 + Sync> CustomOp2 for Pairs<F> {
    fn name(&self) -> &'static str {
        "vqlc-pairs"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = a_layout.shape();
        if shape != b_layout.shape() {
            bail!(
                "expected two tensors of shape {shape:?}, got {:?}",
                b_layout.shape()
            );
        }
        let (a, b) = (slice(a, a_layout)?, slice(b, b_layout)?);
        let mut output = vec![0.0; a.len()];
        output
            .par_chunks_mut(CHUNK)
            .zip(a.par_chunks(CHUNK))
            .zip(b.par_chunks(CHUNK))
            .for_each(|((output, a), b)| {
                for ((y, &a), &b) in output.iter_mut().zip(a).zip(b) {
                    *y = (self.0)(a, b);
                }
            });
        Ok((CpuStorage::F32(output), shape.clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.clone()), Some(gradient.clone())))
    }
}
