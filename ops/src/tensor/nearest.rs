//! The nearest codebook entry.

use candle_core::{DType, Error, Result, Tensor};

use crate::NearestIndex;

/// Ids `[m]` (u32) of the rows of `table` `[n, d]` nearest to the rows of `queries` `[m, d]`, on their device; distance and ties as
/// [`NearestIndex`] has them. Has no gradient.
///
/// # Errors
/// Numbers that are not finite; shapes that do not fit.
pub fn nearest(queries: &Tensor, table: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if queries.device().is_cuda() {
        return crate::cuda::nearest(queries, table);
    }
    let (count, dim) = queries.dims2()?;
    let values = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let index = NearestIndex::build(&values(table)?, dim).map_err(Error::wrap)?;
    let mut ids = vec![0; count];
    index
        .search(&values(queries)?, &mut ids)
        .map_err(Error::wrap)?;
    Tensor::from_vec(ids, count, queries.device())
}
