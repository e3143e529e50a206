//! The exact nearest codebook entry.

use crate::{Error, check, plain};

/// The instructions a search is done with. All give the same ids and distances; chosen by [`NearestIndex::build`], forced only by tests and self-tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// `f32::mul_add`, on any processor.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F.
    Avx512,
}

impl Kernel {
    /// The kernels this processor runs, the fastest last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        vec![Self::Scalar]
    }
}

/// A codebook prepared for exact nearest-entry search.
#[derive(Clone, Debug)]
pub struct NearestIndex {
    table: Vec<f32>,
    dim: usize,
}

impl NearestIndex {
    /// Prepares a table, row-major `[n, dim]`, `dim` in `1..=512`, `n` in `1..=2^30`, all values finite.
    ///
    /// # Errors
    /// [`Error::Dim`], [`Error::Ragged`], [`Error::Entries`], [`Error::NotFinite`].
    pub fn build(table: &[f32], dim: usize) -> Result<Self, Error> {
        check::table(table, dim)?;
        Ok(Self {
            table: table.to_vec(),
            dim,
        })
    }

    /// The same index, searched with a given kernel.
    ///
    /// # Errors
    /// [`Error::Kernel`] when this processor cannot run it.
    #[doc(hidden)]
    pub fn with_kernel(self, kernel: Kernel) -> Result<Self, Error> {
        if Kernel::available().contains(&kernel) {
            Ok(self)
        } else {
            Err(Error::Kernel { got: kernel })
        }
    }

    /// Number of entries of the table, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an index is never empty")]
    pub fn len(&self) -> usize {
        self.table.len() / self.dim
    }

    /// Dimension of an entry.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Writes the id of the nearest entry of each query. `queries` is row-major `[m, dim]`, all finite; `ids` is `[m]`.
    ///
    /// # Errors
    /// [`Error::Ragged`], [`Error::Output`], [`Error::NotFinite`]; `ids` is untouched then.
    pub fn search(&self, queries: &[f32], ids: &mut [u32]) -> Result<(), Error> {
        plain::nearest(&self.table, self.dim, queries, ids)
    }

    /// As [`search`](Self::search), and also the squared distances, `[m]`, as [`plain::distance`] defines them.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_with_distance(
        &self,
        queries: &[f32],
        ids: &mut [u32],
        distances: &mut [f32],
    ) -> Result<(), Error> {
        check::queries(queries, self.dim)?;
        check::output("distances", queries.len() / self.dim, distances.len())?;
        self.search(queries, ids)?;
        for ((query, id), distance) in queries.chunks_exact(self.dim).zip(ids).zip(distances) {
            let at = *id as usize * self.dim;
            *distance = plain::distance(query, &self.table[at..at + self.dim]);
        }
        Ok(())
    }
}
