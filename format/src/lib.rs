//! The `.vqt` token file: token ids of pictures, packed, with checks over every byte and the digests of the tokenizer that
//! made them. SPEC.md at the root of the repository is the normative text.
//!
//! ```text
//! +--------+----------+---------------+---------+-----+-------+----------+---------+---------+--------+
//! | header | metadata | [class names] | block 0 | ... | index | [labels] | [names] | [sizes] | footer |
//! +--------+----------+---------------+---------+-----+-------+----------+---------+---------+--------+
//! 0        1024                                                                    file length - 1072
//! ```
//!
//! [`records`] has every fixed-size record field by field ([`Header`] first), [`limits`] every upper bound. A [`Writer`] takes
//! pictures as they come and can be killed at any moment; a [`TokenFile`] reads over any bytes and checks what it touches;
//! [`TokenFile::check`] checks everything; [`recover`] saves what can be saved; [`merge`] and [`split`] handle shards;
//! [`order`] is the order in which training reads records; [`pack`] is the bit packing.
//!
//! This crate has no notion of pixels, tensors or command lines: what a picture is, is up to the caller. It prints nothing and
//! does not panic on bad input: [`Error`] names what was expected, what was found and where.
//!
//! Not promised: a file that another process changes or cuts while it is mapped (see [`Mapped`]).

mod block;
mod check;
mod copy;
mod digest;
mod error;
mod header;
mod ids;
mod index;
mod iter;
mod journal;
mod layout;
pub mod limits;
mod mapped;
mod merge;
pub mod order;
mod output;
pub mod pack;
mod paths;
mod reader;
pub mod records;
mod recover;
mod replay;
mod report;
mod resume;
mod salvage;
mod seal;
mod sections;
mod side;
mod spec;
mod text;
mod unfinished;
mod writer;

pub use digest::{Digest, Digests, ParseDigestError};
pub use error::{Error, Place, Result};
pub use header::MIN_FILE;
pub use iter::Record;
pub use mapped::Mapped;
pub use merge::{merge, split};
pub use paths::{journal_path, partial_path};
pub use reader::TokenFile;
pub use records::Header;
pub use recover::{recover, survey};
pub use report::{CheckOptions, CheckReport, Problem, RecoverReport, RecoverSource};
pub use spec::{Grid, Picture, Spec, Summary};
pub use writer::Writer;
