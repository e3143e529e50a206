//! Pooling with windows of 3 x 3, which overlap. candle's own has no gradient for these.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{
    Window,
    values::{on_cpu, slice},
};

/// Rows and columns of a window.
const SIDE: usize = 3;

/// The greatest of each 3x3 window of `x` `[b, c, h, w]`, a window for every position that `window` says; what lies in the padding takes
/// no part. Differentiable; on the CPU the gradient goes to the first of several greatest, elsewhere it is shared.
///
/// # Errors
/// A picture without a window, padding of more than one; a tensor operation's.
pub fn max_pool3(x: &Tensor, window: Window) -> Result<Tensor> {
    check(x, window)?;
    if on_cpu(x) {
        return x.contiguous()?.apply_op1(Greatest(window));
    }
    greatest_of_slices(x, window)
}

/// The mean of each 3x3 window of `x` `[b, c, h, w]`, stride 1, of what lies inside the picture: padding is not counted. Not differentiable.
///
/// # Errors
/// A picture of no pixels; a tensor operation's.
pub fn average_pool3(x: &Tensor) -> Result<Tensor> {
    check(x, Window::same(1))?;
    if on_cpu(x) {
        return x.contiguous()?.apply_op1_no_bwd(&Mean);
    }
    let sums = |x: &Tensor| {
        x.pad_with_zeros(D::Minus1, 1, 1)?
            .pad_with_zeros(D::Minus2, 1, 1)?
            .avg_pool2d_with_stride(SIDE, 1)
    };
    let (_, _, height, width) = x.dims4()?;
    let ones = Tensor::ones((1, 1, height, width), x.dtype(), x.device())?;
    sums(x)?.broadcast_div(&sums(&ones)?)
}

/// That every window has a value: numbers of a layer, so a mistake of the caller's.
fn check(x: &Tensor, window: Window) -> Result<()> {
    let (_, _, height, width) = x.dims4()?;
    let (before, after) = window.padding;
    if before > 1 || after > 1 || window.stride == 0 {
        bail!("pool: expected padding of 0 or 1 and a stride, got {window:?}");
    }
    if height.min(width) == 0 || height.min(width) + before + after < SIDE {
        bail!("pool: expected at least a 3 x 3 window, got {height} x {width} and {window:?}");
    }
    Ok(())
}

/// Windows along a side of `length`.
fn windows(length: usize, window: Window) -> usize {
    (length + window.padding.0 + window.padding.1 - SIDE) / window.stride + 1
}

/// The places inside a side of `length` that window number `at` covers.
fn covered(at: usize, length: usize, window: Window) -> std::ops::Range<usize> {
    let first = at * window.stride;
    first.saturating_sub(window.padding.0)..(first + SIDE - window.padding.0).min(length)
}

/// [`max_pool3`] of candle's operations alone.
fn greatest_of_slices(x: &Tensor, window: Window) -> Result<Tensor> {
    let (before, after) = window.padding;
    let mut x = x.clone();
    for dim in [2, 3] {
        let count = windows(x.dim(dim)?, window);
        // The edge repeated is never greater than the edge; behind it there must be whole strides.
        x = x.pad_with_same(dim, before, after + window.stride - 1)?;
        let mut best: Option<Tensor> = None;
        for tap in 0..SIDE {
            let mut values = x.narrow(dim, tap, count * window.stride)?.contiguous()?;
            if window.stride > 1 {
                let mut shape = values.dims().to_vec();
                shape[dim] = count;
                shape.insert(dim + 1, window.stride);
                values = values.reshape(shape)?.narrow(dim + 1, 0, 1)?;
                values = values.squeeze(dim + 1)?;
            }
            best = Some(match best {
                Some(best) => best.maximum(&values)?,
                None => values,
            });
        }
        x = match best {
            Some(best) => best,
            None => bail!("pool: a window of nothing"),
        };
    }
    Ok(x)
}

/// Whether `a` is to be taken rather than `b`: a NaN is not lost.
fn beats(a: f32, b: f32) -> bool {
    a > b || a.is_nan()
}

/// [`max_pool3`]
struct Greatest(Window);

impl CustomOp1 for Greatest {
    fn name(&self) -> &'static str {
        "vqlc-max-pool3"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let greatest = |values: &mut [f32], others: &[f32]| {
            for (value, &other) in values.iter_mut().zip(others) {
                *value = if beats(other, *value) { other } else { *value };
            }
        };
        pooled(
            slice(storage, layout)?,
            layout.shape(),
            self.0,
            greatest,
            |row, _| {
                let first = row[0];
                (row[1..].iter()).fold(first, |best, &x| if beats(x, best) { x } else { best })
            },
        )
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(&gradient.contiguous()?, &GreatestBackward(self.0))
            .map(Some)
    }
}

/// Each window's gradient at its first greatest, summed.
struct GreatestBackward(Window);

impl CustomOp2 for GreatestBackward {
    fn name(&self) -> &'static str {
        "vqlc-max-pool3-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, _, height, width) = x_layout.shape().dims4()?;
        let (rows, columns) = (windows(height, self.0), windows(width, self.0));
        let (input, gradient) = (slice(x, x_layout)?, slice(gradient, gradient_layout)?);
        let mut output = vec![0.0; input.len()];
        output
            .par_chunks_mut(height * width)
            .zip(input.par_chunks(height * width))
            .zip(gradient.par_chunks(rows * columns))
            .for_each(|((output, input), gradient)| {
                for (i, row) in gradient.chunks_exact(columns).enumerate() {
                    for (j, g) in row.iter().enumerate() {
                        let mut best: Option<usize> = None;
                        for y in covered(i, height, self.0) {
                            for x in covered(j, width, self.0) {
                                let at = y * width + x;
                                if best.is_none_or(|best| beats(input[at], input[best])) {
                                    best = Some(at);
                                }
                            }
                        }
                        if let Some(best) = best {
                            output[best] += g;
                        }
                    }
                }
            });
        Ok((CpuStorage::F32(output), x_layout.shape().clone()))
    }
}

/// [`average_pool3`]
struct Mean;

impl CustomOp1 for Mean {
    fn name(&self) -> &'static str {
        "vqlc-average-pool3"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let add = |values: &mut [f32], others: &[f32]| {
            for (value, other) in values.iter_mut().zip(others) {
                *value += other;
            }
        };
        let window = Window::same(1);
        pooled(
            slice(storage, layout)?,
            layout.shape(),
            window,
            add,
            |row, rows| row.iter().sum::<f32>() / (row.len() * rows) as f32,
        )
    }
}

/// Every window of every plane: the rows it covers are joined into one by `join`, and of what it covers of that and how many rows there
/// were `end` makes the result.
fn pooled(
    input: &[f32],
    shape: &Shape,
    window: Window,
    join: impl Fn(&mut [f32], &[f32]) + Sync,
    end: impl Fn(&[f32], usize) -> f32 + Sync,
) -> Result<(CpuStorage, Shape)> {
    let (batch, channels, height, width) = shape.dims4()?;
    let (rows, columns) = (windows(height, window), windows(width, window));
    let mut output = vec![0.0; batch * channels * rows * columns];
    output
        .par_chunks_mut(rows * columns)
        .zip(input.par_chunks(height * width))
        .for_each(|(output, input)| {
            let mut joined = vec![0.0; width];
            for (i, output) in output.chunks_exact_mut(columns).enumerate() {
                let covers = covered(i, height, window);
                let lines = &input[covers.start * width..covers.end * width];
                let (first, rest) = lines.split_at(width);
                joined.copy_from_slice(first);
                for line in rest.chunks_exact(width) {
                    join(&mut joined, line);
                }
                for (j, output) in output.iter_mut().enumerate() {
                    *output = end(&joined[covered(j, width, window)], covers.len());
                }
            }
        });
    let shape = (batch, channels, rows, columns);
    Ok((CpuStorage::F32(output), shape.into()))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    /// Numbers of which several in a window are equal.
    fn numbers(shape: (usize, usize, usize, usize)) -> Tensor {
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let values: Vec<f32> = (0..count).map(|i| (i * i % 23) as f32 - 11.0).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_greatest_is_that_of_slices() {
        let strides = [(1, (1, 1)), (2, (0, 0)), (1, (0, 0)), (2, (1, 1))];
        for (stride, padding) in strides {
            let window = Window { stride, padding };
            for size in [(3, 3), (7, 5), (8, 10)] {
                let x = numbers((2, 3, size.0, size.1));
                let fast = max_pool3(&x, window).unwrap();
                let plain = greatest_of_slices(&x, window).unwrap();
                assert_eq!(fast.dims(), plain.dims());
                assert_eq!(flat(&fast), flat(&plain), "{window:?} {size:?}");
            }
        }
    }

    #[test]
    fn gradients_go_to_the_greatest() {
        // Distinct values: no window has two greatest.
        let values: Vec<f32> = (0..7 * 9).map(|i| (i * 37 % 63) as f32).collect();
        let x = Var::from_vec(values, (1, 1, 7, 9), &Device::Cpu).unwrap();
        let window = Window {
            stride: 2,
            padding: (0, 0),
        };
        let gradient = |pool: &dyn Fn(&Tensor) -> Result<Tensor>| {
            let y = pool(x.as_tensor()).unwrap();
            let scale = Tensor::arange(1f32, 1.0 + y.elem_count() as f32, &Device::Cpu).unwrap();
            let loss = (y.flatten_all().unwrap() * scale).unwrap();
            let grads = loss.sum_all().unwrap().backward().unwrap();
            flat(grads.get(&x).unwrap())
        };
        let fast = gradient(&|x| max_pool3(x, window));
        assert_eq!(fast, gradient(&|x| greatest_of_slices(x, window)));
        assert_eq!(fast.iter().sum::<f32>(), (1..=12).sum::<i32>() as f32);
    }

    #[test]
    fn means_do_not_count_padding() {
        let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], (1, 1, 2, 3), &Device::Cpu);
        let means = flat(&average_pool3(&x.unwrap()).unwrap());
        assert_eq!(means, [3.0, 3.5, 4.0, 3.0, 3.5, 4.0]);
        // Another dtype takes the other way.
        let x = numbers((2, 2, 5, 6));
        let other = average_pool3(&x.to_dtype(DType::F64).unwrap()).unwrap();
        let other = flat(&other.to_dtype(DType::F32).unwrap());
        for (a, b) in flat(&average_pool3(&x).unwrap()).iter().zip(other) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn what_has_no_window_is_refused_and_a_nan_is_kept() {
        let plain = Window {
            stride: 2,
            padding: (0, 0),
        };
        assert!(max_pool3(&numbers((1, 1, 2, 9)), plain).is_err());
        assert!(max_pool3(&numbers((1, 1, 9, 9)), Window::same(2)).is_err());
        let mut values = vec![1f32; 9];
        values[4] = f32::NAN;
        let x = Tensor::from_vec(values, (1, 1, 3, 3), &Device::Cpu).unwrap();
        assert!(flat(&max_pool3(&x, plain).unwrap())[0].is_nan());
    }
}
