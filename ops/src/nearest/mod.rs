//! The exact nearest codebook entry.
//!
//! Up to 16 dimensions a tree of boxes along the table's principal axes is searched, beyond that all entries in blocks; see `search.rs` and `blocks.rs`.
//! Neither holds a matrix of distances: memory is the table once more, an eighth of it for boxes, and some bytes a query.

mod blocks;
mod rotation;
mod search;
mod tree;

use rayon::prelude::*;

use self::blocks::{BlockSearch, Blocks};
use self::search::TreeSearch;
use self::tree::Tree;
use crate::lanes::Proven;
use crate::{Error, Kernel, check};

/// The largest dimension at which a tree rules out enough.
const MAX_TREE_DIM: usize = 16;

/// How a table is laid out.
#[derive(Clone, Debug)]
enum Layout {
    Tree(Tree),
    Blocks(Blocks),
}

/// A codebook prepared for exact nearest-entry search (the quantizer of VQGAN-LC, arXiv 2406.11837, section 3).
///
/// The distance is the f32 sum over ascending `d` of `(query[d] - entry[d])^2` by fused multiply-add from 0 ([`plain::distance`](crate::plain::distance)), the id the
/// lowest index with the least such sum: ties, and copies of an entry, go to the lower id. Where all sums overflow to `+inf` that is id 0. Ids and distances are the same to the bit on every
/// processor, for every number of threads (searches run on rayon's current pool) and whatever other queries a call holds. NaN and infinities have no nearest
/// entry and are refused, in the table and in queries.
///
/// ```
/// let index = vqlc_ops::NearestIndex::build(&[0.0, 0.0, 1.0, 1.0, 3.0, 3.0], 2)?;
/// let mut ids = [0; 2];
/// index.search(&[0.9, 1.2, 2.0, 2.0], &mut ids)?;
/// assert_eq!(ids, [1, 1]);
/// # Ok::<(), vqlc_ops::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NearestIndex {
    layout: Layout,
    entries: usize,
    kernel: Proven,
}

impl NearestIndex {
    /// That an index can be built of a table.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn check(table: &[f32], dim: usize) -> Result<(), Error> {
        check::table(table, dim)
    }

    /// Prepares a table, row-major `[n, dim]`, `dim` in `1..=512`, `n` in `1..=2^30`, all values finite. Works on the calling thread alone: it can be
    /// waited for from within a pool.
    ///
    /// # Errors
    /// [`Error::Dim`], [`Error::Ragged`], [`Error::Entries`], [`Error::NotFinite`].
    pub fn build(table: &[f32], dim: usize) -> Result<Self, Error> {
        check::table(table, dim)?;
        let layout = match dim {
            0..=4 => Layout::Tree(Tree::build(table, dim, 4)),
            5..=8 => Layout::Tree(Tree::build(table, dim, 8)),
            9..=MAX_TREE_DIM => Layout::Tree(Tree::build(table, dim, 16)),
            _ => Layout::Blocks(Blocks::build(table, dim)),
        };
        Ok(Self {
            layout,
            entries: table.len() / dim,
            kernel: Proven::best(),
        })
    }

    /// The same index, searched with a given kernel.
    ///
    /// # Errors
    /// [`Error::Kernel`] when this processor cannot run it.
    #[doc(hidden)]
    pub fn with_kernel(mut self, kernel: Kernel) -> Result<Self, Error> {
        self.kernel = Proven::new(kernel).ok_or(Error::Kernel { got: kernel })?;
        Ok(self)
    }

    /// Number of entries of the table, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an index is never empty")]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Dimension of an entry.
    #[must_use]
    pub fn dim(&self) -> usize {
        match &self.layout {
            Layout::Tree(tree) => tree.dim,
            Layout::Blocks(blocks) => blocks.dim,
        }
    }

    /// Writes the id of the nearest entry of each query. `queries` is row-major `[m, dim]`, all finite; `ids` is `[m]`.
    ///
    /// # Errors
    /// [`Error::Ragged`], [`Error::Output`], [`Error::NotFinite`]; `ids` is untouched then.
    pub fn search(&self, queries: &[f32], ids: &mut [u32]) -> Result<(), Error> {
        let mut distances = vec![0.0; ids.len()];
        self.search_with_distance(queries, ids, &mut distances)
    }

    /// As [`search`](Self::search), and also the squared distances, `[m]`, as [`plain::distance`](crate::plain::distance) defines them.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_with_distance(
        &self,
        queries: &[f32],
        ids: &mut [u32],
        distances: &mut [f32],
    ) -> Result<(), Error> {
        let dim = self.dim();
        check::queries(queries, dim)?;
        check::output("ids", queries.len() / dim, ids.len())?;
        check::output("distances", ids.len(), distances.len())?;
        let chunk = ids
            .len()
            .div_ceil(4 * rayon::current_num_threads())
            .clamp(64, 4096);
        queries
            .par_chunks(chunk * dim)
            .zip(ids.par_chunks_mut(chunk))
            .zip(distances.par_chunks_mut(chunk))
            .for_each(|((queries, ids), distances)| match &self.layout {
                Layout::Tree(tree) => match tree.width {
                    4 => self.kernel.run(TreeSearch::<4> {
                        tree,
                        queries,
                        ids,
                        distances,
                    }),
                    8 => self.kernel.run(TreeSearch::<8> {
                        tree,
                        queries,
                        ids,
                        distances,
                    }),
                    _ => self.kernel.run(TreeSearch::<16> {
                        tree,
                        queries,
                        ids,
                        distances,
                    }),
                },
                Layout::Blocks(blocks) => self.kernel.run(BlockSearch {
                    blocks,
                    queries,
                    ids,
                    distances,
                }),
            });
        Ok(())
    }
}
