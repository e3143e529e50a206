//! What can go wrong, with what was expected and what was found.

use std::path::PathBuf;

/// Errors of this crate (pictures have their own, [`crate::image::ImageError`]).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system said no.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file it was about.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The file is not a model file, or a damaged one.
    #[error("not a usable model file: {0}")]
    Malformed(String),
    /// A model file of a version this program does not know.
    #[error("model file version {found}, this program reads version {expected}: use a newer vqlc")]
    Version {
        /// The version in the file.
        found: String,
        /// The version this code writes and reads.
        expected: &'static str,
    },
    /// Weights in another form (a published checkpoint) where a model file is needed.
    #[error(
        "these are weights without a projected codebook and digests: run `vqlc model convert IN OUT` first"
    )]
    NotConverted,
    /// A tensor the network needs is not there.
    #[error("tensor {name} is missing (expected shape {expected:?})")]
    MissingTensor {
        /// Its name.
        name: String,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("tensor {name}: expected shape {expected:?}, found {found:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// Tensors that no part of the network asked for.
    #[error("{count} tensors do not belong to this network, the first is {first}")]
    ExtraTensors {
        /// The first of them in name order.
        first: String,
        /// How many there are.
        count: usize,
    },
    /// A digest written in the file is not that of its tensors.
    #[error(
        "{part} digest: the file says {expected}, its tensors give {found}: the file is damaged or was edited"
    )]
    Digest {
        /// Which part: codebook, encoder, decoder or source.
        part: &'static str,
        /// The digest in the metadata.
        expected: String,
        /// The digest computed.
        found: String,
    },
    /// A configuration that no network can be built from.
    #[error("configuration: {0}")]
    Config(String),
    /// A value handed in has the wrong length or size.
    #[error("{what}: expected {expected}, found {found}")]
    Argument {
        /// What it is.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A token id that is not in the codebook.
    #[error("token id {id} is not below the codebook size {codebook_size}")]
    IdOutOfRange {
        /// The id.
        id: u32,
        /// Number of entries.
        codebook_size: u32,
    },
    /// The device asked for cannot be used.
    #[error("device {device}: {reason}")]
    Device {
        /// As written on the command line.
        device: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The nearest-entry search.
    #[error("nearest entry: {0}")]
    Search(#[from] vqlc_ops::Error),
    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }
}
