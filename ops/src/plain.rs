//! The definitions, written as plainly as possible. The fast versions are compared with these.

use crate::{Error, check};

/// Squared distance of a query to an entry: the f32 sum over ascending `d` of `(query[d] - entry[d])^2`, each step one fused multiply-add, from 0.
///
/// The difference is rounded to f32 first; the square is added without rounding in between. Values that overflow give `+inf`.
#[must_use]
pub fn distance(query: &[f32], entry: &[f32]) -> f32 {
    query.iter().zip(entry).fold(0.0, |sum, (z, b)| {
        let difference = z - b;
        difference.mul_add(difference, sum)
    })
}

/// The id of the entry nearest to each query: the lowest index with the least [`distance`] (VQGAN-LC, arXiv 2406.11837, section 3: `argmin ||z - b'||`).
///
/// `table` is row-major `[n, dim]`, `queries` row-major `[m, dim]`, `ids` `[m]`. Takes `m * n * dim` steps on one thread.
///
/// # Errors
/// As [`NearestIndex::build`](crate::NearestIndex::build) and [`NearestIndex::search`](crate::NearestIndex::search).
pub fn nearest(table: &[f32], dim: usize, queries: &[f32], ids: &mut [u32]) -> Result<(), Error> {
    check::table(table, dim)?;
    check::queries(queries, dim)?;
    check::output("ids", queries.len() / dim, ids.len())?;
    for (query, id) in queries.chunks_exact(dim).zip(ids) {
        let mut least = f32::INFINITY;
        *id = 0;
        for (index, entry) in (0..).zip(table.chunks_exact(dim)) {
            let distance = distance(query, entry);
            if distance < least {
                least = distance;
                *id = index;
            }
        }
    }
    Ok(())
}
