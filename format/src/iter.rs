//! Going through the records of a file.

use crate::error::Result;
use crate::reader::TokenFile;

/// A record with its ids unpacked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its number: picture * views + view.
    pub record: u64,
    /// Rows of its grid, at least 1.
    pub rows: u32,
    /// Columns of its grid, at least 1.
    pub cols: u32,
    /// Its ids, `[rows, cols]` row-major, each below K.
    pub ids: Vec<u32>,
}

impl<D: AsRef<[u8]>> TokenFile<D> {
    /// All records in order. Each is unpacked when the iterator comes to it, into a `Vec` of its own: where the ids of many
    /// records are to go into one buffer, [`TokenFile::get_range`] and [`TokenFile::gather`] are faster. A record of a
    /// damaged block is an error that [`is_damage`](crate::Error::is_damage), and the records behind that block still come.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record>> + '_ {
        (0..self.len()).map(|record| {
            let mut ids = Vec::new();
            let (rows, cols) = self.get(record, &mut ids)?;
            Ok(Record {
                record,
                rows,
                cols,
                ids,
            })
        })
    }
}
