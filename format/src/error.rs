//! One error type: what was expected, what was found, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// A part of a token file, for messages and reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The fixed-size header at the start.
    Header,
    /// View names and preprocessing record.
    Metadata,
    /// Class names.
    Classes,
    /// The block with this number.
    Block(u64),
    /// The table of blocks.
    Index,
    /// The label of each picture.
    Labels,
    /// The name of each picture.
    Names,
    /// The original width and height of each picture.
    Sizes,
    /// A section of a newer version.
    Section(u32),
    /// The footer, which repeats the header and ends in a magic.
    Footer,
    /// The whole file.
    File,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Metadata => f.write_str("metadata section"),
            Self::Classes => f.write_str("class name section"),
            Self::Block(number) => write!(f, "block {number}"),
            Self::Index => f.write_str("index section"),
            Self::Labels => f.write_str("label section"),
            Self::Names => f.write_str("name section"),
            Self::Sizes => f.write_str("size section"),
            Self::Section(kind) => write!(f, "section of unknown kind {kind}"),
            Self::Footer => f.write_str("footer"),
            Self::File => f.write_str("file"),
        }
    }
}

/// Everything that can go wrong. [`Error::is_damage`] tells wrong bytes from everything else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- damage: the bytes of a token file are wrong ---
    /// Fewer bytes than the smallest token file has.
    #[error("not a whole token file: expected at least {expected} bytes, found {found}")]
    TooShort {
        /// Bytes of the smallest file.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The magic at the start or the end is not there.
    #[error("{place} at byte {offset}: expected magic {expected:02x?}, found {found:02x?}")]
    Magic {
        /// Header, block or footer.
        place: Place,
        /// Byte in the file.
        offset: u64,
        /// The magic.
        expected: [u8; 8],
        /// What stands there.
        found: [u8; 8],
    },
    /// The file is shorter or longer than its header says.
    #[error("file length: header declares {expected} bytes, found {found}")]
    Length {
        /// Declared length.
        expected: u64,
        /// Real length.
        found: u64,
    },
    /// A CRC-32 does not match.
    #[error("{place} at byte {offset}: expected CRC-32 {expected:08x}, found {found:08x}")]
    Checksum {
        /// What was checked.
        place: Place,
        /// Its first byte in the file.
        offset: u64,
        /// The CRC the file gives.
        expected: u32,
        /// The CRC of the bytes.
        found: u32,
    },
    /// A SHA-256 does not match.
    #[error("{place} at byte {offset}: expected SHA-256 {expected}, found {found}")]
    DigestMismatch {
        /// What was checked.
        place: Place,
        /// Its first byte in the file.
        offset: u64,
        /// The digest the file gives.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// A field has a value that the format does not allow there.
    #[error("{place} at byte {offset}: {field}: expected {expected}, found {found}")]
    Field {
        /// Where the field is.
        place: Place,
        /// First byte of the record or section that holds it.
        offset: u64,
        /// Its name in SPEC.md.
        field: &'static str,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Bytes that do not decode as the structure or the zstd frame that they should be.
    #[error(
        "{place} at byte {offset}: expected {expected}, found bytes that do not decode: {found}"
    )]
    Decode {
        /// Where.
        place: Place,
        /// First byte of what does not decode.
        offset: u64,
        /// What should be there.
        expected: &'static str,
        /// What the decoder says.
        found: String,
    },
    /// An id that is not below K.
    #[error(
        "block {block} at byte {offset}: record {record}: expected ids below {codebook_size}, found {id}"
    )]
    IdTooLarge {
        /// The block.
        block: u64,
        /// First byte of the record.
        offset: u64,
        /// The record.
        record: u64,
        /// K.
        codebook_size: u32,
        /// The id.
        id: u32,
    },

    // --- files of a newer version ---
    /// A major version this library does not know.
    #[error("unsupported version: expected major {expected}, found {major}.{minor}")]
    UnsupportedVersion {
        /// The major version this library reads.
        expected: u16,
        /// Major version of the file.
        major: u16,
        /// Minor version of the file.
        minor: u16,
    },
    /// The file needs a feature this library does not know.
    #[error("unsupported required feature bits {found:#010x}; this library knows {known:#010x}")]
    RequiredFlags {
        /// Known bits.
        known: u32,
        /// All required bits of the file.
        found: u32,
    },
    /// A block is encoded in a way this library does not know.
    #[error("block {block} at byte {offset}: unsupported codec: expected 0 (raw), found {codec}")]
    UnsupportedCodec {
        /// The block.
        block: u64,
        /// Its first byte.
        offset: u64,
        /// Codec number.
        codec: u32,
    },

    // --- the world around the file ---
    /// The operating system refused.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The output is there already.
    #[error("{path} exists already and is not overwritten unless asked to", path = path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// An unfinished output is there already: resume it, or ask for overwriting.
    #[error("{path} is an unfinished earlier job: resume it or overwrite it", path = path.display())]
    PartialExists {
        /// The partial file.
        path: PathBuf,
    },
    /// Another writer holds the partial file.
    #[error("another process is writing {path}", path = path.display())]
    Locked {
        /// The partial file.
        path: PathBuf,
    },
    /// There is no partial file to continue.
    #[error("nothing to resume: there is no {path}", path = path.display())]
    NothingToResume {
        /// The partial file that would be there.
        path: PathBuf,
    },
    /// The job was finished already: only its journal was left, and is now removed.
    #[error("{path} is complete already", path = path.display())]
    AlreadyComplete {
        /// The output.
        path: PathBuf,
    },
    /// The partial file has data but its journal is missing or unreadable.
    #[error("cannot resume {path}: its journal is missing or unreadable", path = path.display())]
    JournalLost {
        /// The partial file.
        path: PathBuf,
    },
    /// The journal is of another job.
    #[error("cannot resume {path}: {what} changed: expected {expected}, found {found}", path = path.display())]
    ResumeMismatch {
        /// The partial file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// In the journal.
        expected: String,
        /// Now.
        found: String,
    },
    /// An earlier error left the writer unusable; what is journalled can be resumed.
    #[error("the writer of {path} failed before; resume it", path = path.display())]
    WriterFailed {
        /// The partial file.
        path: PathBuf,
    },

    // --- wrong arguments ---
    /// A specification, picture or option outside its range.
    #[error("{what}: expected {expected}, found {found}")]
    Argument {
        /// Which argument.
        what: &'static str,
        /// Its range.
        expected: String,
        /// Its value.
        found: String,
    },
    /// An id that is not below K was handed to the writer.
    #[error(
        "picture at position {position}: id number {index}: expected an id below {codebook_size}, found {id}"
    )]
    InvalidId {
        /// Input position of the picture.
        position: u64,
        /// Index into its ids.
        index: usize,
        /// K.
        codebook_size: u32,
        /// The id.
        id: u32,
    },
    /// A record or picture number past the end.
    #[error("no such {what}: expected a number below {len}, found {index}")]
    OutOfRange {
        /// "record" or "picture".
        what: &'static str,
        /// How many there are.
        len: u64,
        /// The number asked for.
        index: u64,
    },
    /// The operation needs one grid for all records.
    #[error("this needs records of one grid, and in this file the grid varies")]
    GridVaries,
    /// Files to be merged were not made alike.
    #[error("cannot merge {path}: {what}: expected {expected}, found {found}", path = path.display())]
    MergeMismatch {
        /// The file that differs from the first one.
        path: PathBuf,
        /// In what it differs.
        what: &'static str,
        /// In the first file.
        expected: String,
        /// In this one.
        found: String,
    },
}

/// Result with this crate's [`Error`] unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether bytes of a token file are wrong (this includes files that are no token file at all). Not damage: input
    /// and output errors, wrong arguments, outputs in the way, jobs that cannot be resumed, and undamaged files of a
    /// newer version.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::TooShort { .. }
                | Self::Magic { .. }
                | Self::Length { .. }
                | Self::Checksum { .. }
                | Self::DigestMismatch { .. }
                | Self::Field { .. }
                | Self::Decode { .. }
                | Self::IdTooLarge { .. }
        )
    }

    /// Wraps an I/O error with what was tried on which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn argument(
        what: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Argument {
            what,
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}
