//! Upper bounds. A writer refuses to pass them and a reader refuses what does, so that no number in a file can ask
//! for more than max(16 MiB, one block) of memory.

/// Bytes of a block, with its header and record table.
pub const MAX_BLOCK: u64 = 64 << 20;
/// Bytes at which blocks aim: a full block where the caller names no number of records, and the size that no block of
/// several varying pictures passes.
pub const BLOCK_TARGET: u64 = 1 << 20;
/// Records in a full block of varying pictures where the caller names no number (rounded down to whole pictures).
pub const VARYING_RECORDS: u32 = 1024;
/// Blocks of a file.
pub const MAX_BLOCKS: u64 = 1 << 27;
/// Ids of a picture over all its views: 16 MiB as u32.
pub const MAX_IDS: u64 = 1 << 22;
/// Views of a picture.
pub const MAX_VIEWS: u32 = 256;
/// Bytes of a picture's name, a class name or a view's name.
pub const MAX_TEXT: usize = 4096;
/// Class names.
pub const MAX_CLASSES: usize = 1 << 16;
/// Bytes of all class names together.
pub const MAX_CLASS_TEXT: usize = 4 << 20;
/// Bytes of the preprocessing record.
pub const MAX_PREPROCESSING: usize = 1 << 20;
/// Bytes of all view names together.
pub const MAX_VIEW_TEXT: usize = 1 << 16;
