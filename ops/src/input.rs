//! What a convolution reads: a picture, and what happens to it on the way in.

use crate::Error;
use crate::norm::Scales;

/// The channels of a picture as a convolution reads them: as they are, or normalised, or doubled in size, without a copy in memory.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    values: &'a [f32],
    /// Of `values`.
    size: (usize, usize),
    doubled: bool,
    scales: Option<&'a Scales>,
}

impl<'a> Input<'a> {
    /// `values` `[channels, height, width]`; whether there are as many is checked by what reads them.
    #[must_use]
    pub fn new(values: &'a [f32], height: usize, width: usize) -> Self {
        Self {
            values,
            size: (height, width),
            doubled: false,
            scales: None,
        }
    }

    /// Twice the height and twice the width, each value four times (nearest neighbour).
    #[must_use]
    pub fn doubled(self) -> Self {
        Self {
            doubled: true,
            ..self
        }
    }

    /// Normalised by `scales`, which [`GroupNorm::scales`](crate::GroupNorm::scales) found for these values.
    #[must_use]
    pub fn normalised(self, scales: &'a Scales) -> Self {
        Self {
            scales: Some(scales),
            ..self
        }
    }

    /// Rows, as they are read.
    #[must_use]
    pub fn height(&self) -> usize {
        self.size.0 << usize::from(self.doubled)
    }

    /// Columns, as they are read.
    #[must_use]
    pub fn width(&self) -> usize {
        self.size.1 << usize::from(self.doubled)
    }

    /// The values, where nothing happens to them.
    pub(crate) fn plain(&self) -> Option<&'a [f32]> {
        (!self.doubled && self.scales.is_none()).then_some(self.values)
    }

    /// The same values in rows of `columns`, a divisor of how many a channel has.
    pub(crate) fn as_rows_of(self, columns: usize) -> Self {
        debug_assert!(!self.doubled, "rows matter where they are doubled");
        Self {
            size: (self.size.0 * self.size.1 / columns, columns),
            ..self
        }
    }

    /// That there are values for so many channels.
    pub(crate) fn check(&self, channels: usize) -> Result<(), Error> {
        let (height, width) = self.size;
        let expected = channels * height * width;
        crate::conv::length("input", expected, self.values.len())?;
        self.scales.map_or(Ok(()), |scales| scales.check(channels))
    }

    /// Row `y` of `channel` from column `from` on.
    #[inline(always)]
    pub(crate) fn read(&self, channel: usize, y: usize, from: usize, to: &mut [f32]) {
        if to.is_empty() {
            return;
        }
        let (height, width) = self.size;
        let y = y >> usize::from(self.doubled);
        let row = &self.values[(channel * height + y) * width..][..width];
        if !self.doubled {
            let row = &row[from..from + to.len()];
            match self.scales {
                Some(scales) => scales.apply(channel, row, to),
                None => to.copy_from_slice(row),
            }
            return;
        }
        let odd = (from % 2).min(to.len());
        let (first, pairs) = to.split_at_mut(odd);
        first.fill(row[from / 2]);
        let row = &row[from.div_ceil(2)..];
        let (pairs, last) = pairs.as_chunks_mut::<2>();
        let (row, rest) = row.split_at(pairs.len());
        for (pair, &x) in pairs.iter_mut().zip(row) {
            *pair = [x; 2];
        }
        if let ([last], [x, ..]) = (last, rest) {
            *last = *x;
        }
        if let Some(scales) = self.scales {
            scales.apply_in_place(channel, to);
        }
    }
}

/// What becomes of what was in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// It is overwritten.
    Over,
    /// The result is added to it.
    Added,
}

impl Store {
    /// Puts results where they belong.
    #[inline(always)]
    pub(crate) fn put(self, from: &[f32], to: &mut [f32]) {
        match self {
            Self::Over => to.copy_from_slice(from),
            Self::Added => {
                for (to, from) in to.iter_mut().zip(from) {
                    *to += from;
                }
            }
        }
    }
}
