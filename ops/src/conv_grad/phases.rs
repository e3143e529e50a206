//! The gradient of a convolution's input as stride-1 convolutions of the gradient of its output.
//!
//! With stride `s` and `p` zeros before, input `i = s a + r` meets kernel place `k` in output `a + (r + p - k) / s` where that is whole:
//! for each remainder `r` of the rows and of the columns, the gradient is a stride-1 convolution of the output's gradient with those
//! kernel places that fit. No multiplication by a zero that striding put in between.

use super::Batch;
use crate::ConvShape;

/// The inputs of one remainder of the rows and one of the columns.
#[derive(Debug)]
pub(crate) struct Phase {
    /// Remainders of rows and columns.
    pub(crate) at: (usize, usize),
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Each kernel place, and the row and column of the window where it meets the output's gradient.
    pub(crate) places: Vec<(usize, (usize, usize))>,
}

/// What the gradient of the input is made of.
#[derive(Debug)]
pub(crate) struct Phases {
    /// The convolution of the output's gradient whose window holds the places of all phases.
    pub(crate) view: ConvShape,
    /// Columns of the phase that has most.
    pub(crate) columns: usize,
    pub(crate) phases: Vec<Phase>,
}

impl Phases {
    /// Of `shape` on `batch`, whose output has `rows` rows.
    pub(crate) fn new(shape: &ConvShape, batch: Batch, rows: usize) -> Self {
        let (stride, height, width) = (shape.stride, batch.height, batch.width);
        let axis: Vec<_> = (0..stride).map(|r| places(shape, r)).collect();
        let offsets = || axis.iter().flatten().map(|&(_, offset)| offset);
        let before = offsets().min().unwrap_or(0).min(0).unsigned_abs();
        let reach = offsets().max().unwrap_or(0).max(0).unsigned_abs();
        let window = |offset: isize| (offset + before.cast_signed()).unsigned_abs();
        let mut phases = Vec::new();
        for ry in 0..stride.min(height) {
            for rx in 0..stride.min(width) {
                let places: Vec<_> = axis[ry]
                    .iter()
                    .flat_map(|&(ky, y)| axis[rx].iter().map(move |&(kx, x)| ((ky, kx), (y, x))))
                    .map(|((ky, kx), (y, x))| (ky * shape.side + kx, (window(y), window(x))))
                    .collect();
                // What no kernel place meets keeps its gradient of 0.
                if !places.is_empty() {
                    phases.push(Phase {
                        at: (ry, rx),
                        rows: (height - ry).div_ceil(stride),
                        columns: (width - rx).div_ceil(stride),
                        places,
                    });
                }
            }
        }
        let after = (height.div_ceil(stride) + reach).saturating_sub(rows);
        Self {
            view: ConvShape {
                inputs: shape.outputs,
                outputs: shape.inputs,
                side: before + reach + 1,
                stride: 1,
                padding: (before, after),
            },
            columns: width.div_ceil(stride),
            phases,
        }
    }
}

impl Phase {
    /// Puts rows of this phase, of some channels, to their places in `result` `[channels, height, width]`.
    pub(crate) fn scatter(
        &self,
        stride: usize,
        values: &[f32],
        result: &mut [f32],
        (height, width): (usize, usize),
    ) {
        for (line, values) in values.chunks_exact(self.columns).enumerate() {
            let (channel, a) = (line / self.rows, line % self.rows);
            let y = a * stride + self.at.0;
            let to = &mut result[(channel * height + y) * width..][..width];
            let to = to[self.at.1..].iter_mut().step_by(stride);
            for (to, &value) in to.zip(values) {
                *to = value;
            }
        }
    }
}

/// Kernel places of one axis that meet the inputs of remainder `r`, each with where its output lies from `a`.
fn places(shape: &ConvShape, r: usize) -> Vec<(usize, isize)> {
    let from = r + shape.padding.0;
    (0..shape.side)
        .filter(|k| from % shape.stride == k % shape.stride)
        .map(|k| {
            let difference = from.cast_signed() - k.cast_signed();
            (k, difference / shape.stride.cast_signed())
        })
        .collect()
}
