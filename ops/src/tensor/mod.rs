//! Operations on candle's tensors, with their gradients, on the CPU and on CUDA.
//!
//! Activations are NCHW. Where an operation takes a `compute` dtype, BF16 means that products are taken of operands rounded to bf16
//! and summed in f32; parameters stay f32 either way, and gradients of parameters come back in f32.

mod assign;
mod conv;
mod elementwise;
mod nearest;
mod norm;
mod resample;

pub use assign::assign;
pub use conv::{Window, conv2d, depthwise};
pub use elementwise::{add, leaky_relu, relu6};
pub use nearest::nearest;
pub use norm::group_norm;
pub use resample::{max_pool2, upsample2};
