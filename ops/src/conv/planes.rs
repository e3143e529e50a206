//! A picture laid out for convolution.

use std::borrow::Cow;

use rayon::prelude::*;

use super::TILE;
use crate::lanes::{Job, Lanes, Proven};
use crate::{ConvShape, Input};

/// The picture with its zeros around it: rows of all channels side by side, so that what an output is a sum of lies close together
/// (`plane < row`); or, where it needs no zeros, as it is, channel by channel (`plane >= row`).
/// Columns are sorted by their remainder modulo the stride, so that those of one kernel column lie side by side for neighbouring outputs.
pub(crate) struct Planes<'a> {
    pub(crate) values: Cow<'a, [f32]>,
    /// Values from a channel to the next.
    pub(crate) plane: usize,
    /// Values from a row of a channel to the next.
    pub(crate) row: usize,
    /// Values of a row of one channel and one remainder: whole tiles and the reach of the kernel.
    part: usize,
    stride: usize,
}

impl<'a> Planes<'a> {
    /// For `shape`'s kernel laid at `columns` places of a row.
    pub(crate) fn new(kernel: Proven, shape: &ConvShape, input: Input<'a>, columns: usize) -> Self {
        let (stride, (height, width)) = (shape.stride, (input.height(), input.width()));
        // Room for whole tiles, shifted by the farthest kernel column.
        let part = columns.next_multiple_of(TILE) + (shape.side - 1) / stride;
        let plane = stride * part;
        let padded = height + shape.padding.0 + shape.padding.1;
        if let Some(values) = input.plain()
            && (stride, plane, padded) == (1, width, height)
        {
            return Self {
                values: Cow::Borrowed(values),
                plane: height * width,
                row: width,
                part,
                stride,
            };
        }
        let row = shape.inputs * plane;
        let mut values = vec![0.0; padded * row];
        values.par_chunks_mut(row).enumerate().for_each(|(y, row)| {
            if let Some(y) = y.checked_sub(shape.padding.0).filter(|&y| y < height) {
                kernel.run(RowJob {
                    input,
                    y,
                    before: shape.padding.0,
                    stride,
                    part,
                    row,
                });
            }
        });
        Self {
            values: Cow::Owned(values),
            plane,
            row,
            part,
            stride,
        }
    }

    /// For a 1x1 convolution: the [`TILE`] columns of all `inputs` that a tile is a sum of side by side. Channel by channel they lie a power
    /// of two apart as a rule, and push each other out of the caches. A channel must have whole tiles.
    pub(crate) fn by_tiles(kernel: Proven, inputs: usize, input: Input<'_>) -> Self {
        let input = input.as_rows_of(TILE);
        let row = inputs * TILE;
        let mut values = vec![0.0; input.height() * row];
        let rows = values.par_chunks_mut(row).enumerate();
        rows.with_min_len(16).for_each(|(y, row)| {
            kernel.run(RowJob {
                input,
                y,
                before: 0,
                stride: 1,
                part: TILE,
                row,
            });
        });
        Self {
            values: Cow::Owned(values),
            plane: TILE,
            row,
            part: TILE,
            stride: 1,
        }
    }

    /// Where a kernel row and column starts, from the place of the output.
    pub(crate) fn tap(&self, ky: usize, kx: usize) -> usize {
        ky * self.row + (kx % self.stride) * self.part + kx / self.stride
    }

    /// Every [`Planes::tap`] of a square kernel, row by row.
    pub(crate) fn taps(&self, side: usize) -> Vec<usize> {
        let taps = (0..side).flat_map(|ky| (0..side).map(move |kx| (ky, kx)));
        taps.map(|(ky, kx)| self.tap(ky, kx)).collect()
    }
}

/// One row of the picture, of all channels.
struct RowJob<'a, 'b> {
    input: Input<'a>,
    y: usize,
    /// Columns of zeros before the picture.
    before: usize,
    stride: usize,
    /// See [`Planes`].
    part: usize,
    row: &'b mut [f32],
}

impl Job for RowJob<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self {
            before,
            stride,
            part,
            ..
        } = self;
        let channels = self.row.chunks_exact_mut(stride * part).enumerate();
        // Columns behind the last kernel position have no place.
        let count = self
            .input
            .width()
            .min((stride * part).saturating_sub(before));
        if stride == 1 {
            for (channel, row) in channels {
                self.input
                    .read(channel, self.y, 0, &mut row[before..before + count]);
            }
            return;
        }
        let mut line = vec![0.0; (before + count).next_multiple_of(stride)];
        for (channel, row) in channels {
            self.input
                .read(channel, self.y, 0, &mut line[before..before + count]);
            if stride == 2 {
                // The only other stride of the networks, without a division for each column.
                let (even, odd) = row.split_at_mut(part);
                let pairs = line.as_chunks::<2>().0;
                for (pair, (even, odd)) in pairs.iter().zip(even.iter_mut().zip(odd)) {
                    [*even, *odd] = *pair;
                }
                continue;
            }
            for (x, &value) in line.iter().enumerate() {
                row[(x % stride) * part + x / stride] = value;
            }
        }
    }
}
