//! Fast operations on tensors for VQGAN-LC, each with a plain version that defines what it computes.
//!
//! - [`NearestIndex`]: the exact nearest codebook entry, [`plain::nearest`] is its definition.
//!
//! This crate has no notion of networks, files or pictures. It never prints, and bad arguments give a typed [`Error`].

mod check;
mod error;
mod nearest;
pub mod plain;

pub use error::Error;
#[doc(hidden)]
pub use nearest::Kernel;
pub use nearest::NearestIndex;

/// The largest dimension of a codebook entry that is served.
pub const MAX_DIM: usize = 512;

/// The largest number of codebook entries that is served.
pub const MAX_ENTRIES: usize = 1 << 30;
