//! What can be wrong with the arguments of an operation.

use crate::Kernel;

/// Why an operation refused its arguments. Nothing has been written to the outputs then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The dimension of an entry is outside `1..=MAX_DIM`.
    #[error("dimension of an entry: expected 1..={max}, got {got}")]
    Dim {
        /// The largest dimension served.
        max: usize,
        /// The dimension given.
        got: usize,
    },
    /// A row-major `[rows, dim]` slice whose length is not a multiple of `dim`.
    #[error("length of the {what}: expected a multiple of {dim}, got {got}")]
    Ragged {
        /// Which argument: "table" or "queries".
        what: &'static str,
        /// The dimension of a row.
        dim: usize,
        /// The length given, in numbers.
        got: usize,
    },
    /// The table holds no entry, or more than a `u32` id can name.
    #[error("entries in the table: expected 1..={max}, got {got}")]
    Entries {
        /// The largest number of entries served.
        max: usize,
        /// The number of entries given.
        got: usize,
    },
    /// An output slice has another length than there are queries.
    #[error("length of the {what}: expected {expected}, got {got}")]
    Output {
        /// Which argument: "ids" or "distances".
        what: &'static str,
        /// The number of queries.
        expected: usize,
        /// The length given.
        got: usize,
    },
    /// A NaN or an infinity: no distance to it is defined.
    #[error(
        "value in row {row}, column {column} of the {what}: expected a finite number, got {got}"
    )]
    NotFinite {
        /// Which argument: "table" or "queries".
        what: &'static str,
        /// Row of the first such value.
        row: usize,
        /// Column of the first such value.
        column: usize,
        /// "NaN", "inf" or "-inf".
        got: &'static str,
    },
    /// A slice has another length than its shape asks for.
    #[error("length of the {what}: expected {expected}, got {got}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// The length its shape asks for.
        expected: usize,
        /// The length given, in numbers.
        got: usize,
    },
    /// There is nothing to compute.
    #[error("{what}: expected at least 1")]
    Empty {
        /// Which number or argument.
        what: &'static str,
    },
    /// A kernel or stride that the way of computing it is not made for.
    #[error("a kernel of {side} x {side} with stride {stride}: expected 3 x 3 with stride 1")]
    Window {
        /// Rows and columns of the kernel.
        side: usize,
        /// Step from output to output.
        stride: usize,
    },
    /// A target that is not in the vocabulary.
    #[error("target: expected below {vocabulary}, got {target}")]
    Target {
        /// The target given.
        target: u32,
        /// Logits of a row.
        vocabulary: usize,
    },
    /// This processor lacks the instructions of the kernel asked for.
    #[error("kernel: expected one of those this processor runs, got {got:?}")]
    Kernel {
        /// The kernel asked for.
        got: Kernel,
    },
}
