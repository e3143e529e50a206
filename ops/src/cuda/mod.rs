//! The operations of [`tensor`](crate::tensor) on NVIDIA GPUs: convolution through cuDNN, and kernels of our own, whose sources lie
//! beside this file and are compiled for the GPU at hand when first used.

mod assign;
mod attention;
mod conv;
mod distance;
mod kernels;
mod nearest;
mod norm;
mod open;
mod residual;
mod rows;
mod small;
mod transfer;

pub(crate) use assign::assign;
pub(crate) use attention::attention;
pub(crate) use conv::{conv2d, detours};
pub(crate) use distance::unit_distances;
pub(crate) use nearest::nearest;
pub(crate) use norm::{batch_norm, group_norm};
pub(crate) use open::open;
pub(crate) use residual::residual;
pub(crate) use rows::{cross_entropy, rows_backward, rows_forward};
pub(crate) use small::{Small, small};
pub(crate) use transfer::{download, upload};

/// What goes wrong on the way to a GPU only. Within a candle error.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// NVRTC refused a kernel's source, or is not there.
    #[error("compiling the CUDA kernels of {module} for compute capability {capability}: {source}")]
    Compile {
        module: &'static str,
        capability: String,
        source: candle_core::cuda_backend::cudarc::nvrtc::CompileError,
    },
    /// A tensor on another device, or of a dtype that is not served.
    #[error("{operation}: expected {expected}, got {got}")]
    Argument {
        operation: &'static str,
        expected: &'static str,
        got: String,
    },
    /// A size that a kernel's 32-bit counters, or cuDNN's, do not hold.
    #[error("{operation}: {what} is too large ({got})")]
    TooLarge {
        operation: &'static str,
        what: &'static str,
        got: usize,
    },
}

impl Error {
    /// Operations of this module are only reached with tensors on CUDA.
    fn on_cpu(operation: &'static str) -> Self {
        Self::Argument {
            operation,
            expected: "tensors on CUDA",
            got: "the CPU".into(),
        }
    }

    /// A backward pass without what the forward pass leaves.
    fn no_forward() -> Self {
        Self::Argument {
            operation: "a gradient on CUDA",
            expected: "a forward pass before the backward pass",
            got: "none".into(),
        }
    }

    fn dtype(operation: &'static str, got: candle_core::DType) -> Self {
        Self::Argument {
            operation,
            expected: "f32 or bf16",
            got: format!("{got:?}"),
        }
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        Self::Cuda(Box::new(error)).bt()
    }
}
