//! Attention with several heads.

use candle_core::{DType, Result, Tensor, bail};

use super::softmax;

/// `softmax(q k' / sqrt(d)) v` (Vaswani et al. 2017, equation 1) for each head: query `[b, heads, t, d]`, key and value
/// `[b, heads, s, d]`, all of one dtype, f32 or bf16; gives `[b, t, heads d]` of that dtype, heads side by side. Sums and softmax are f32.
/// Where `causal`, the last query sees all keys, the one before it one less, and so on. Differentiable.
///
/// On CUDA in bf16, with a `d` of up to 128 that 8 divides, the `t s` weights of a head are never all in memory, forward or backward (Dao 2023,
/// arXiv 2307.08691), and inputs may be transposed as they came from `[b, t, heads, d]`.
///
/// # Errors
/// Shapes that do not fit; more queries than keys where `causal`; a tensor operation's.
pub fn attention(query: &Tensor, key: &Tensor, value: &Tensor, causal: bool) -> Result<Tensor> {
    let (batch, heads, queries, side) = query.dims4()?;
    let keys = key.dim(2)?;
    if key.dims() != [batch, heads, keys, side] || value.dims() != key.dims() {
        bail!(
            "attention: a query of {:?} does not fit a key of {:?} and a value of {:?}",
            query.dims(),
            key.dims(),
            value.dims()
        );
    }
    if causal && queries > keys {
        bail!("attention: {queries} queries of {keys} keys: the first would see none");
    }
    #[cfg(feature = "cuda")]
    if let Some(made) = crate::cuda::attention(query, key, value, causal)? {
        return Ok(made);
    }
    let (key, value) = (key.contiguous()?, value.contiguous()?);
    let scores = query
        .contiguous()?
        .matmul(&key.t()?)?
        .to_dtype(DType::F32)?;
    let weights = softmax(&scores, (side as f64).powf(-0.5), causal)?.to_dtype(value.dtype())?;
    let x = weights.matmul(&value)?.transpose(1, 2)?.contiguous()?;
    x.reshape((batch, queries, heads * side))
}
