//! Self-attention with several heads.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::VarBuilder;
use vqlc_ops::tensor::attention;

use super::{Linear, LinearInit};

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

/// Where query, key and value come from.
#[derive(Debug)]
enum Projections {
    /// Three layers.
    Apart([Linear; 3]),
    /// One layer of three times the width: query, key and value behind one another.
    Fused(Linear),
}

/// Self-attention (Vaswani et al. 2017): `softmax(q k' / sqrt(width / heads)) v`, heads side by side, then `out`.
#[derive(Debug)]
pub struct Attention {
    heads: usize,
    input: Projections,
    out: Linear,
}

impl Attention {
    /// Of `width` numbers; `names` are those of the layers for query, key, value and output.
    ///
    /// # Errors
    /// Heads that do not divide the width; what the builder says.
    pub fn new(width: usize, heads: usize, names: [&str; 4], vb: &VarBuilder) -> Result<Self> {
        check_heads(width, heads)?;
        let linear = |name: &str| Linear::new(width, width, &vb.pp(name));
        let [query, key, value, out] = names;
        Ok(Self {
            heads,
            input: Projections::Apart([linear(query)?, linear(key)?, linear(value)?]),
            out: linear(out)?,
        })
    }

    /// Of `width` numbers, with timm's names: `qkv` gives query, key and value, `proj` is the output. `init` draws new weights.
    ///
    /// # Errors
    /// Heads that do not divide the width; what the builder says.
    pub fn fused(width: usize, heads: usize, init: LinearInit, vb: &VarBuilder) -> Result<Self> {
        check_heads(width, heads)?;
        Ok(Self {
            heads,
            input: Projections::Fused(Linear::drawn(width, 3 * width, init, &vb.pp("qkv"))?),
            out: Linear::drawn(width, width, init, &vb.pp("proj"))?,
        })
    }

    /// Lets the tokens `x` `[b, tokens, width]` attend to each other, and to those in `cache`, which stand before them and which they join.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn forward(&self, x: &Tensor, mask: Mask, cache: Option<&mut Cache>) -> Result<Tensor> {
        let [query, key, value] = match &self.input {
            Projections::Apart([query, key, value]) => {
                [query.forward(x)?, key.forward(x)?, value.forward(x)?]
            }
            Projections::Fused(layer) => {
                let all = layer.forward(x)?;
                let width = all.dim(D::Minus1)? / 3;
                let part = |i| all.narrow(D::Minus1, i * width, width);
                [part(0)?, part(1)?, part(2)?]
            }
        };
        let compute = self.out.compute();
        let query = split(&query, self.heads, compute)?;
        let mut key = split(&key, self.heads, compute)?;
        let mut value = split(&value, self.heads, compute)?;
        if let Some(Cache(seen)) = cache {
            (key, value) = (key.contiguous()?, value.contiguous()?);
            if let Some((keys, values)) = seen {
                key = Tensor::cat(&[&*keys, &key], 2)?;
                value = Tensor::cat(&[&*values, &value], 2)?;
            }
            // Nobody learns token by token, and what is kept must not keep what it was computed from.
            *seen = Some((key.detach(), value.detach()));
        }
        self.out
            .forward(&attention(&query, &key, &value, mask == Mask::Causal)?)
    }
}

/// Attention to a context (Rombach et al. 2022, section 3.3): queries of the tokens, keys and values of the context. Parameters as in the
/// published code: `to_q`, `to_k`, `to_v` without biases and `to_out.0`.
#[derive(Debug)]
pub struct CrossAttention {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

impl CrossAttention {
    /// Tokens of `width` numbers attend to a context of `context` numbers.
    ///
    /// # Errors
    /// Heads that do not divide the width; what the builder says.
    pub fn new(width: usize, context: usize, heads: usize, vb: &VarBuilder) -> Result<Self> {
        check_heads(width, heads)?;
        Ok(Self {
            heads,
            query: Linear::without_bias(width, width, &vb.pp("to_q"))?,
            key: Linear::without_bias(context, width, &vb.pp("to_k"))?,
            value: Linear::without_bias(context, width, &vb.pp("to_v"))?,
            out: Linear::new(width, width, &vb.pp("to_out.0"))?,
        })
    }

    /// `x` `[b, tokens, width]` attends to `context` `[b, s, context]`; to itself where `context` is `x`.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let compute = self.out.compute();
        let query = split(&self.query.forward(x)?, self.heads, compute)?;
        let key = split(&self.key.forward(context)?, self.heads, compute)?;
        let value = split(&self.value.forward(context)?, self.heads, compute)?;
        self.out.forward(&attention(&query, &key, &value, false)?)
    }
}

fn check_heads(width: usize, heads: usize) -> Result<()> {
    if heads == 0 || !width.is_multiple_of(heads) {
        candle_core::bail!("{heads} heads do not divide the width of {width}");
    }
    Ok(())
}

/// `[b, tokens, width]` to `[b, heads, tokens, width / heads]`.
fn split(x: &Tensor, heads: usize, compute: DType) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    x.to_dtype(compute)?
        .reshape((batch, tokens, heads, width / heads))?
        .transpose(1, 2)
}
