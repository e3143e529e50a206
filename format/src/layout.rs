//! The arithmetic that writer and reader share: bits, record and block lengths, and the ranges they must keep.

use crate::error::{Error, Place};
use crate::limits::{BLOCK_TARGET, MAX_BLOCK, MAX_IDS, MAX_VIEWS, VARYING_RECORDS};
use crate::pack::{bits_for, packed_len};
use crate::records::{BlockHeader, RecordEntry};
use crate::spec::Grid;

/// Sizes of ids, records and blocks; only [`Layout::new`] makes one, so its numbers are in range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) codebook_size: u32,
    pub(crate) bits: u32,
    pub(crate) grid: Grid,
    pub(crate) views: u32,
    pub(crate) records_per_block: u32,
}

/// A number out of range: a wrong argument to a writer, damage to a reader.
#[derive(Debug)]
pub(crate) struct Invalid {
    field: &'static str,
    expected: String,
    found: String,
}

impl Invalid {
    pub(crate) fn new(
        field: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self {
            field,
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    pub(crate) fn argument(self) -> Error {
        Error::Argument {
            what: self.field,
            expected: self.expected,
            found: self.found,
        }
    }

    pub(crate) fn damage(self, place: Place, offset: u64) -> Error {
        Error::Field {
            place,
            offset,
            field: self.field,
            expected: self.expected,
            found: self.found,
        }
    }
}

impl Layout {
    /// Checks the ranges; `records_per_block` is what the caller asked for or the header says.
    pub(crate) fn new(
        codebook_size: u32,
        grid: Grid,
        views: usize,
        records_per_block: Option<u32>,
    ) -> Result<Self, Invalid> {
        if codebook_size == 0 {
            return Err(Invalid::new("codebook_size", "at least 1", 0));
        }
        let views = match u32::try_from(views) {
            Ok(views) if (1..=MAX_VIEWS).contains(&views) => views,
            _ => {
                let expected = format!("1 to {MAX_VIEWS}");
                return Err(Invalid::new("views_per_picture", expected, views));
            }
        };
        let mut layout = Self {
            codebook_size,
            bits: bits_for(codebook_size),
            grid,
            views,
            records_per_block: views,
        };
        let fixed = match grid {
            Grid::Fixed { rows, cols } => Some(layout.record_length(rows, cols)?),
            Grid::Varying => None,
        };
        let whole_pictures = |records: u64| {
            let records = records / u64::from(views) * u64::from(views);
            u32::try_from(records).unwrap_or(views).max(views)
        };
        layout.records_per_block = match (records_per_block, fixed) {
            (Some(records), _) => records,
            (None, Some(stride)) => whole_pictures(BLOCK_TARGET / stride),
            (None, None) => whole_pictures(u64::from(VARYING_RECORDS)),
        };
        let records = layout.records_per_block;
        if records == 0 || !records.is_multiple_of(views) {
            let expected = format!("a positive multiple of the {views} views");
            return Err(Invalid::new("records_per_block", expected, records));
        }
        // At most (2^32 - 1) * 2^24 + 48: no overflow.
        let full = fixed.map(|stride| BlockHeader::LEN as u64 + u64::from(records) * stride);
        if full.is_some_and(|length| length > MAX_BLOCK) {
            let expected = format!("blocks of at most {MAX_BLOCK} bytes");
            return Err(Invalid::new("records_per_block", expected, records));
        }
        Ok(layout)
    }

    /// Bytes of a record of `rows` x `cols` ids.
    pub(crate) fn record_length(&self, rows: u32, cols: u32) -> Result<u64, Invalid> {
        let ids = u64::from(rows) * u64::from(cols);
        let most = MAX_IDS / u64::from(self.views);
        if ids == 0 || ids > most {
            let expected = format!("1 to {most} ids in each of {} views", self.views);
            return Err(Invalid::new("grid", expected, format!("{rows} x {cols}")));
        }
        let length = usize::try_from(ids)
            .ok()
            .and_then(|ids| packed_len(ids, self.bits));
        match length {
            Some(length) => Ok(length as u64),
            None => Err(Invalid::new("grid", "a record that fits memory", ids)),
        }
    }

    /// Rows and columns of every record and its length in bytes, where the grid is fixed.
    pub(crate) fn fixed(&self) -> Option<Fixed> {
        let Grid::Fixed { rows, cols } = self.grid else {
            return None;
        };
        let stride = self.record_length(rows, cols).ok()?;
        Some(Fixed { rows, cols, stride })
    }

    /// Bytes of the record table of a block of `records` records.
    pub(crate) fn table_length(&self, records: u32) -> u64 {
        match self.grid {
            Grid::Fixed { .. } => 0,
            Grid::Varying => u64::from(records) * RecordEntry::LEN as u64,
        }
    }
}

/// A fixed grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed {
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    /// Bytes of a record.
    pub(crate) stride: u64,
}

impl Fixed {
    /// Ids of a record.
    pub(crate) fn ids(&self) -> usize {
        // At most MAX_IDS, by Layout::record_length.
        self.rows as usize * self.cols as usize
    }

    /// Bytes of a block of `records` records. No overflow: a stride is below 2^25.
    pub(crate) fn block_length(&self, records: u32) -> u64 {
        BlockHeader::LEN as u64 + u64::from(records) * self.stride
    }
}
