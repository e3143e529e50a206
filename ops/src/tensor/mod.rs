//! Operations on candle's tensors, with their gradients, on the CPU and on CUDA.
//!
//! Activations are NCHW where nothing else is said. Where an operation takes a `compute` dtype, BF16 means that products are taken of operands rounded to bf16
//! and summed in f32; parameters stay f32 either way, and gradients of parameters come back in f32.

mod assign;
mod attention;
mod conv;
mod conv_cpu;
mod cross_entropy;
mod depthwise;
mod distance;
mod elementwise;
mod maps;
mod nearest;
mod norm;
mod pool;
mod products;
mod resample;
mod residual;
mod rows;
mod transfer;
mod values;

pub use assign::assign;
pub use attention::attention;
pub use conv::{Window, channels_last_detours, conv2d};
pub use conv_cpu::bf16_on_cpu;
pub use cross_entropy::cross_entropy;
pub use depthwise::depthwise;
pub use distance::unit_distances;
pub use elementwise::{add, leaky_relu, relu, relu6};
pub use maps::{Maps, Order};
pub use nearest::nearest;
pub use norm::{batch_norm_train, group_norm};
pub use pool::{average_pool3, max_pool3};
pub use resample::{max_pool2, upsample2};
pub use residual::{Residual, residual};
pub use rows::{gelu, softmax, standardise};
pub use transfer::{Number, download, upload};
