//! Fast operations on tensors for VQGAN-LC, each with a plain version that defines what it computes.
//!
//! - [`NearestIndex`]: the exact nearest codebook entry, [`plain::nearest`] is its definition.
//! - [`Conv2d`]: convolution, [`plain::conv2d`] is its definition.
//! - [`Winograd`]: 3x3 convolution with fewer products, equal to it but for rounding.
//! - [`GroupNorm`]: group normalisation with swish. Convolutions read an [`Input`] that is normalised on the way, or doubled in size.
//! - [`attention`]: self-attention over the positions of a picture.
//! - [`cross_entropy`]: of rows of logits over a large vocabulary, with its gradient.
//! - [`mod@tensor`]: operations on candle's tensors, with gradients.
//!
//! All give the same results to the bit on every processor and for every number of threads; products in bf16, which only some
//! processors have, for every number of threads.
//!
//! This crate has no notion of networks, files or pictures. It never prints, and bad arguments give a typed [`Error`].

#[cfg_attr(not(target_arch = "x86_64"), path = "amx_none.rs")]
mod amx;
mod attention;
mod check;
mod conv;
mod conv_grad;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda;
mod depthwise;
mod error;
mod input;
mod lanes;
mod nearest;
mod norm;
pub mod plain;
mod rows;
pub mod tensor;
mod winograd;

pub use attention::attention;
#[doc(hidden)]
pub use attention::attention_with_kernel;
pub use conv::{Conv2d, ConvShape};
pub use cross_entropy::cross_entropy;
pub use error::Error;
pub use input::{Input, Store};
#[doc(hidden)]
pub use lanes::Kernel;
pub use nearest::NearestIndex;
pub use norm::{GroupNorm, Scales};
pub use winograd::Winograd;

/// The largest dimension of a codebook entry that is served.
pub const MAX_DIM: usize = 512;

/// The largest number of codebook entries that is served.
pub const MAX_ENTRIES: usize = 1 << 30;

/// Opens the NVIDIA GPU of this index: with one queue of work for all threads, and keeping memory that was freed for the next allocation.
///
/// # Errors
/// The driver's.
#[cfg(feature = "cuda")]
pub fn open_gpu(index: usize) -> candle_core::Result<candle_core::Device> {
    cuda::open(index)
}
