//! Changing the size of a map. candle's own pooling and upsampling have wrong gradients.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{
    Order,
    values::{on_cpu, slice},
};

/// Doubles height and width of maps `x`, which lie in `order`, by repeating. Differentiable.
///
/// # Errors
/// A tensor operation's.
pub fn upsample2(x: &Tensor, order: Order) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::small(x, crate::cuda::Small::Upsample2(order));
    }
    order.around(x, doubled)
}

fn doubled(x: &Tensor) -> Result<Tensor> {
    if on_cpu(x) {
        return x.contiguous()?.apply_op1(Double);
    }
    let (batch, channels, height, width) = x.dims4()?;
    x.reshape((batch, channels, height, 1, width, 1))?
        .broadcast_as((batch, channels, height, 2, width, 2))?
        .contiguous()?
        .reshape((batch, channels, 2 * height, 2 * width))
}

/// The greatest of each 2x2 window of maps `x`, which lie in `order`; an odd last row or column is dropped, as PyTorch does.
/// Differentiable; the gradient goes to the greatest, on the CPU and on CUDA to the first of several.
///
/// # Errors
/// A tensor operation's.
pub fn max_pool2(x: &Tensor, order: Order) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::small(x, crate::cuda::Small::MaxPool2(order));
    }
    order.around(x, greatest)
}

fn greatest(x: &Tensor) -> Result<Tensor> {
    if on_cpu(x) {
        return x.contiguous()?.apply_op1(Greatest);
    }
    let (batch, channels, height, width) = x.dims4()?;
    let (rows, columns) = (height / 2, width / 2);
    x.narrow(2, 0, 2 * rows)?
        .narrow(3, 0, 2 * columns)?
        .reshape((batch, channels, rows, 2, columns, 2))?
        .max(5)?
        .max(3)
}

/// [`upsample2`]
struct Double;

impl CustomOp1 for Double {
    fn name(&self) -> &'static str {
        "vqlc-upsample2"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let input = slice(storage, layout)?;
        let mut output = vec![0.0; 4 * input.len()];
        output
            .par_chunks_mut((4 * width).max(1))
            .zip(input.par_chunks(width.max(1)))
            .for_each(|(output, input)| {
                let (first, second) = output.split_at_mut(2 * width);
                for (pair, &x) in first.as_chunks_mut::<2>().0.iter_mut().zip(input) {
                    *pair = [x; 2];
                }
                second.copy_from_slice(first);
            });
        let shape = (batch, channels, 2 * height, 2 * width);
        Ok((CpuStorage::F32(output), shape.into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        gradient
            .contiguous()?
            .apply_op1_no_bwd(&DoubleBackward)
            .map(Some)
    }
}

/// Sums each 2x2 window.
struct DoubleBackward;

impl CustomOp1 for DoubleBackward {
    fn name(&self) -> &'static str {
        "vqlc-upsample2-backward"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let gradient = slice(storage, layout)?;
        let mut output = vec![0.0; gradient.len() / 4];
        output
            .par_chunks_mut((width / 2).max(1))
            .zip(gradient.par_chunks((2 * width).max(1)))
            .for_each(|(output, gradient)| {
                let (above, below) = gradient.split_at(width);
                let windows = above
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .zip(below.as_chunks::<2>().0);
                for (sum, (a, b)) in output.iter_mut().zip(windows) {
                    *sum = (a[0] + a[1]) + (b[0] + b[1]);
                }
            });
        let shape = (batch, channels, height / 2, width / 2);
        Ok((CpuStorage::F32(output), shape.into()))
    }
}

/// [`max_pool2`]
struct Greatest;

/// Place and value of the first greatest of a window, row by row; of the last NaN where there is one, so that it is not lost.
#[inline(always)]
fn first_greatest(above: [f32; 2], below: [f32; 2]) -> (usize, f32) {
    let mut best = (0, above[0]);
    for (place, x) in [(1, above[1]), (2, below[0]), (3, below[1])] {
        if x > best.1 || x.is_nan() {
            best = (place, x);
        }
    }
    best
}

impl CustomOp1 for Greatest {
    fn name(&self) -> &'static str {
        "vqlc-max-pool2"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let (rows, columns) = (height / 2, width / 2);
        let input = slice(storage, layout)?;
        let mut output = vec![0.0; batch * channels * rows * columns];
        output
            .par_chunks_mut((rows * columns).max(1))
            .zip(input.par_chunks((height * width).max(1)))
            .for_each(|(output, input)| {
                let pairs = input.chunks_exact(2 * width);
                for (output, pair) in output.chunks_exact_mut(columns).zip(pairs) {
                    let (above, below) = pair.split_at(width);
                    let windows = above
                        .as_chunks::<2>()
                        .0
                        .iter()
                        .zip(below.as_chunks::<2>().0);
                    for (y, (&a, &b)) in output.iter_mut().zip(windows) {
                        *y = first_greatest(a, b).1;
                    }
                }
            });
        let shape = (batch, channels, rows, columns);
        Ok((CpuStorage::F32(output), shape.into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(&gradient.contiguous()?, &GreatestBackward)
            .map(Some)
    }
}

/// Each window's gradient at its first greatest, zeros elsewhere.
struct GreatestBackward;

impl CustomOp2 for GreatestBackward {
    fn name(&self) -> &'static str {
        "vqlc-max-pool2-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, _, height, width) = x_layout.shape().dims4()?;
        let (rows, columns) = (height / 2, width / 2);
        let (input, gradient) = (slice(x, x_layout)?, slice(gradient, gradient_layout)?);
        let mut output = vec![0.0; input.len()];
        output
            .par_chunks_mut((height * width).max(1))
            .zip(input.par_chunks((height * width).max(1)))
            .zip(gradient.par_chunks((rows * columns).max(1)))
            .for_each(|((output, input), gradient)| {
                let pairs = input
                    .chunks_exact(2 * width)
                    .zip(output.chunks_exact_mut(2 * width));
                for (gradient, (input, output)) in gradient.chunks_exact(columns).zip(pairs) {
                    for (i, &g) in gradient.iter().enumerate() {
                        let at =
                            |y: usize| [input[y * width + 2 * i], input[y * width + 2 * i + 1]];
                        let (place, _) = first_greatest(at(0), at(1));
                        output[place / 2 * width + 2 * i + place % 2] = g;
                    }
                }
            });
        Ok((CpuStorage::F32(output), x_layout.shape().clone()))
    }
}
