//! Why a picture could not be read, prepared or written.

use std::io;

/// Errors of the picture module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be read or the output could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The path names a folder, a device or a pipe.
    #[error("not a regular file")]
    NotAFile,
    /// No content of a known picture format.
    #[error("not a picture in a known format")]
    UnknownFormat,
    /// The file itself is larger than a picture of the permitted size can be.
    #[error("file has more than {limit} bytes, the most that {max_pixels} pixels can take")]
    FileTooLarge {
        /// Bytes a file may have.
        limit: u64,
        /// The pixel limit it follows from.
        max_pixels: u64,
    },
    /// The header announces more pixels than permitted; nothing was decoded.
    #[error("picture has {width} x {height} pixels, more than the limit of {max_pixels}")]
    TooManyPixels {
        /// Announced width.
        width: u32,
        /// Announced height.
        height: u32,
        /// The limit, [`super::ReadOptions::max_pixels`].
        max_pixels: u64,
    },
    /// The header announces a picture without pixels.
    #[error("picture is empty: {width} x {height} pixels")]
    Empty {
        /// Announced width.
        width: u32,
        /// Announced height.
        height: u32,
    },
    /// The file ends before the picture does.
    #[error("file is cut short: {0}")]
    Truncated(&'static str),
    /// The decoder refused the content.
    #[error("cannot decode: {0}")]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A kind of picture that is not supported, though its format is.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A third-party decoder panicked on this content (a defect of that decoder).
    #[error("the decoder failed on this content: {0}")]
    DecoderPanic(String),
    /// A pixel buffer does not have the length its size implies.
    #[error("{width} x {height} pixels need {expected} values, got {got}")]
    Length {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// Expected number of values.
        expected: u64,
        /// Number of values given.
        got: u64,
    },
    /// A value to be turned into a pixel is not a number.
    #[error("value {index} of the picture is not a number")]
    NotANumber {
        /// Index into the pixel buffer.
        index: usize,
    },
    /// The picture's shape does not allow the requested preparation.
    #[error("cannot prepare a picture of {width} x {height} pixels: {reason}")]
    Shape {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What stands against it.
        reason: &'static str,
    },
    /// Preprocessing settings that do not make sense together.
    #[error("preprocessing: {0}")]
    Settings(String),
    /// A preprocessing record that cannot be understood.
    #[error("preprocessing record: {0}")]
    Record(String),
    /// A preprocessing record of another version than this program knows.
    #[error("preprocessing record has version {got}, this program knows version {expected}")]
    RecordVersion {
        /// Version this program writes and reads.
        expected: u32,
        /// Version found.
        got: u64,
    },
    /// The picture could not be encoded.
    #[error("cannot encode: {0}")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
}
