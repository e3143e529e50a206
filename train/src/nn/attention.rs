//! Self-attention with several heads.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{VarBuilder, ops::softmax};

use super::Linear;

/// What a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All tokens.
    None,
    /// Itself and those before it.
    Causal,
}

/// Keys and values of the tokens that a layer has seen, `[b, heads, tokens, width / heads]` each.
#[derive(Debug, Default)]
pub struct Cache(Option<(Tensor, Tensor)>);

/// Self-attention (Vaswani et al. 2017): `softmax(q k' / sqrt(width / heads)) v`, heads side by side, then `out`.
#[derive(Debug)]
pub struct Attention {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    compute: DType,
}

impl Attention {
    /// Of `width` numbers; `names` are those of the layers for query, key, value and output.
    ///
    /// # Errors
    /// Heads that do not divide the width; what the builder says.
    pub fn new(width: usize, heads: usize, names: [&str; 4], vb: &VarBuilder) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            candle_core::bail!("{heads} heads do not divide the width of {width}");
        }
        let linear = |name: &str| Linear::new(width, width, &vb.pp(name));
        let [query, key, value, out] = names;
        Ok(Self {
            heads,
            query: linear(query)?,
            key: linear(key)?,
            value: linear(value)?,
            out: linear(out)?,
            compute: vb.dtype(),
        })
    }

    /// Lets the tokens `x` `[b, tokens, width]` attend to each other, and to those in `cache`, which stand before them and which they join.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn forward(&self, x: &Tensor, mask: Mask, cache: Option<&mut Cache>) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let side = width / self.heads;
        let split = |x: Tensor| {
            x.reshape((batch, tokens, self.heads, side))?
                .transpose(1, 2)?
                .contiguous()?
                .to_dtype(self.compute)
        };
        let query = split((self.query.forward(x)? * (side as f64).powf(-0.5))?)?;
        let (mut key, mut value) = (split(self.key.forward(x)?)?, split(self.value.forward(x)?)?);
        if let Some(Cache(seen)) = cache {
            if let Some((keys, values)) = seen {
                key = Tensor::cat(&[&*keys, &key], 2)?;
                value = Tensor::cat(&[&*values, &value], 2)?;
            }
            *seen = Some((key.clone(), value.clone()));
        }
        let mut scores = query.matmul(&key.t()?)?.to_dtype(DType::F32)?;
        if mask == Mask::Causal && tokens > 1 {
            scores = scores.broadcast_add(&causal(tokens, key.dim(2)?, &scores)?)?;
        }
        let weights = softmax(&scores, D::Minus1)?.to_dtype(self.compute)?;
        let x = weights.matmul(&value)?.transpose(1, 2)?.contiguous()?;
        let x = x.reshape((batch, tokens, width))?.to_dtype(DType::F32)?;
        self.out.forward(&x)
    }
}

/// `[tokens, all]`: 0 where the last `tokens` of `all` may look, minus infinity where they may not.
fn causal(tokens: usize, all: usize, like: &Tensor) -> Result<Tensor> {
    let before = all - tokens;
    let values: Vec<f32> = (0..tokens)
        .flat_map(|row| {
            (0..all).map(move |column| match column <= before + row {
                true => 0.0,
                false => f32::NEG_INFINITY,
            })
        })
        .collect();
    Tensor::from_vec(values, (tokens, all), like.device())
}
