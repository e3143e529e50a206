//! What the caller says before the first record, and what it hands over for each picture.

use crate::digest::{Digest, Digests};

/// Rows and columns of ids in each record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Grid {
    /// Every record has this many rows and columns; record i is found by arithmetic.
    Fixed {
        /// Rows of ids, at least 1.
        rows: u32,
        /// Columns of ids, at least 1.
        cols: u32,
    },
    /// Each picture has its own grid; records are found through tables.
    Varying,
}

/// Everything that is fixed before the first record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Entries of the codebook (K), at least 1; ids are below it and take max(1, ceil(log2 K)) bits.
    pub codebook_size: u32,
    /// The grid of ids of each record.
    pub grid: Grid,
    /// Names of the views of each picture, 1 to [`MAX_VIEWS`](crate::limits::MAX_VIEWS); record number = picture * views + view.
    pub views: Vec<String>,
    /// Records in a full block: a positive multiple of the number of views, or `None` for blocks of about 1 MiB.
    pub records_per_block: Option<u32>,
    /// What made the ids.
    pub digests: Digests,
    /// How pictures were prepared: opaque here, at most [`MAX_PREPROCESSING`](crate::limits::MAX_PREPROCESSING) bytes.
    pub preprocessing: Vec<u8>,
    /// `Some` = each picture may have a label, and these are the names of classes 0, 1, ...; `None` = no labels.
    pub classes: Option<Vec<Vec<u8>>>,
    /// Whether the name (relative path, as bytes) of each picture is kept.
    pub names: bool,
    /// Whether the original width and height in pixels of each picture are kept.
    pub sizes: bool,
}

/// One picture, as handed to [`Writer::push`](crate::Writer::push).
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Relative path as bytes; kept if the specification says names, at most [`MAX_TEXT`](crate::limits::MAX_TEXT) bytes.
    pub name: &'a [u8],
    /// Number of its class, below the number of class names. Refused in a file without labels.
    pub label: Option<u32>,
    /// Original width in pixels; kept if the specification says sizes.
    pub width: u32,
    /// Original height in pixels; kept if the specification says sizes.
    pub height: u32,
    /// Rows of ids of each view.
    pub rows: u32,
    /// Columns of ids of each view.
    pub cols: u32,
    /// Ids, `[views, rows, cols]` row-major, each below K.
    pub ids: &'a [u32],
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Records (pictures times views).
    pub records: u64,
    /// Pictures.
    pub pictures: u64,
    /// Bytes of the file.
    pub file_len: u64,
    /// Bytes of packed ids in it.
    pub id_bytes: u64,
    /// How many of the K ids occur.
    pub distinct_ids: u32,
    /// The content digest: SHA-256 over the SHA-256s of the blocks and sections.
    pub content: Digest,
}
