//! What can go wrong in training.

use std::path::{Path, PathBuf};

use vqlc_format::Digest;

/// Errors of this crate.
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
    /// A configuration that cannot be trained with, or that is not one.
    #[error("configuration: {0}")]
    Config(String),
    /// A file that is not what it should be.
    #[error("{path}: {reason}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, expected and found.
        reason: String,
    },
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
    /// A loss, a gradient or a weight is infinite or not a number, or the loss is many times what it was.
    #[error("step {step}: training diverged: a loss, gradient or weight is not finite or far beyond what it was; {}", advice(checkpoint.as_deref()))]
    Diverged {
        /// The step that could not be made, or that it was seen after.
        step: u64,
        /// The newest checkpoint, if there is one.
        checkpoint: Option<PathBuf>,
    },
    /// A run to go on with that never wrote a checkpoint.
    #[error("{folder}: no checkpoint to go on from; start the run without --resume", folder = folder.display())]
    NoCheckpoint {
        /// The run's folder.
        folder: PathBuf,
    },
    /// A folder that holds another run.
    #[error("{folder}: there is a run already; go on with --resume, or name another folder", folder = folder.display())]
    RunExists {
        /// The run's folder.
        folder: PathBuf,
    },
    /// A token file that cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<vqlc_format::Error>,
    },
    /// A tokenizer to which the ids mean other things.
    #[error(
        "the tokens are another tokenizer's: {part} digest: expected {}, found {}; name the model that made them",
        expected.short(), found.short()
    )]
    OtherTokenizer {
        /// The part that differs.
        part: &'static str,
        /// Its digest as the tokens say.
        expected: Digest,
        /// The tokenizer's.
        found: Digest,
    },
    /// The tokenizer's own.
    #[error(transparent)]
    Model(#[from] vqlc_model::Error),
    /// A picture that cannot be made or read.
    #[error(transparent)]
    Image(#[from] vqlc_model::image::ImageError),
    /// An operation's.
    #[error(transparent)]
    Ops(#[from] vqlc_ops::Error),
    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// What to do about divergence.
fn advice(checkpoint: Option<&Path>) -> String {
    const HOW: &str = "a lower optimizer.lr or with optimizer.clip";
    match checkpoint {
        Some(path) => format!("go on from {} with --resume and {HOW}", path.display()),
        None => format!("start anew with {HOW}"),
    }
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Divergence at a step, where checkpoints are not known.
    pub(crate) fn diverged(step: u64) -> Self {
        Self::Diverged {
            step,
            checkpoint: None,
        }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }

    pub(crate) fn tokens(path: &Path, source: vqlc_format::Error) -> Self {
        Self::Tokens {
            path: path.to_path_buf(),
            source: Box::new(source),
        }
    }

    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }
}
