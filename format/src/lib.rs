//! The `.vqt` token file.

mod digest;
mod error;
pub mod limits;
pub mod order;
pub mod pack;
pub mod records;
mod report;
mod spec;
mod api_sketch;

pub use api_sketch::{Mapped, TokenFile, Writer, journal_path, merge, partial_path, recover, split, survey};
pub use digest::{Digest, Digests, ParseDigestError};
pub use error::{Error, Place, Result};
pub use records::Header;
pub use report::{CheckOptions, CheckReport, Problem, RecoverReport, RecoverSource};
pub use spec::{Grid, Picture, Spec, Summary};
