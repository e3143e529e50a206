//! The network.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::nn::{Attention, Cache, LayerNorm, Linear, Mask};

const EPS: f64 = 1e-5;

/// The sizes of a GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptConfig {
    /// Entries of the codebook: tokens 0 to `codes - 1`.
    pub codes: usize,
    /// Classes: tokens `codes` to `codes + classes - 1`; the one behind them, null, stands for none.
    pub classes: usize,
    /// Tokens that the network can look at: one for the class, and the ids but the last.
    pub tokens: usize,
    /// Numbers of a token.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of the attention, a divisor of `width`.
    pub heads: usize,
}

impl GptConfig {
    /// Ids, classes and null.
    pub fn vocabulary(&self) -> usize {
        self.codes + self.classes + 1
    }

    /// The token that stands for no class.
    pub fn null(&self) -> u32 {
        (self.codes + self.classes) as u32
    }
}

/// A decoder-only transformer, normalised before each part.
#[derive(Debug)]
pub struct Gpt {
    config: GptConfig,
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Gpt {
    /// Builds it from parameters with minGPT's names.
    ///
    /// # Errors
    /// Heads that do not divide the width; what the builder says.
    pub fn new(config: GptConfig, vb: &VarBuilder) -> Result<Self> {
        let GptConfig { width, .. } = config;
        let init = Init::Randn {
            mean: 0.0,
            stdev: 0.02,
        };
        let blocks = (0..config.layers)
            .map(|i| Block::new(&config, &vb.pp("blocks").pp(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            config,
            tokens: vb.get_with_hints((config.vocabulary(), width), "tok_emb.weight", init)?,
            positions: vb.get_with_hints((1, config.tokens, width), "pos_emb", init)?,
            blocks,
            norm: LayerNorm::new(width, EPS, &vb.pp("ln_f"))?,
            head: Linear::without_bias(width, config.vocabulary(), &vb.pp("head"))?,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// What the head is taken of, `[b, t, width]`, for tokens `[b, t]` (u32).
    ///
    /// # Errors
    /// More tokens than the network can look at; a tensor operation's.
    pub fn hidden(&self, tokens: &Tensor) -> Result<Tensor> {
        self.run(tokens, 0, None)
    }

    /// As [`Self::hidden`], for tokens that stand behind those in `caches`, one for each block, which they join.
    pub(super) fn hidden_after(
        &self,
        tokens: &Tensor,
        before: usize,
        caches: &mut [Cache],
    ) -> Result<Tensor> {
        self.run(tokens, before, Some(caches))
    }

    fn run(
        &self,
        tokens: &Tensor,
        before: usize,
        mut caches: Option<&mut [Cache]>,
    ) -> Result<Tensor> {
        let (batch, count) = tokens.dims2()?;
        if before + count > self.config.tokens {
            candle_core::bail!(
                "{} tokens, this network can look at {}",
                before + count,
                self.config.tokens
            );
        }
        let x = self.tokens.index_select(&tokens.flatten_all()?, 0)?;
        let x = x.reshape((batch, count, self.config.width))?;
        let mut x = x.broadcast_add(&self.positions.narrow(1, before, count)?)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let cache = caches.as_deref_mut().map(|caches| &mut caches[i]);
            x = block.forward(&x, cache)?;
        }
        self.norm.forward(&x)
    }

    /// The head's weight, `[vocabulary, width]`.
    pub fn head(&self) -> &Tensor {
        self.head.weight()
    }

    /// Logits `[.., vocabulary]` of what [`Self::hidden`] gave: of all tokens at once, so for a few only.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.forward(hidden)
    }

    /// A cache for each block.
    pub(super) fn caches(&self) -> Vec<Cache> {
        self.blocks.iter().map(|_| Cache::default()).collect()
    }
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl Block {
    fn new(config: &GptConfig, vb: &VarBuilder) -> Result<Self> {
        let GptConfig { width, heads, .. } = *config;
        let names = ["query", "key", "value", "proj"];
        Ok(Self {
            norm1: LayerNorm::new(width, EPS, &vb.pp("ln1"))?,
            attention: Attention::new(width, heads, names, &vb.pp("attn"))?,
            norm2: LayerNorm::new(width, EPS, &vb.pp("ln2"))?,
            widen: Linear::new(width, 4 * width, &vb.pp("mlp.0"))?,
            narrow: Linear::new(4 * width, width, &vb.pp("mlp.2"))?,
        })
    }

    fn forward(&self, x: &Tensor, cache: Option<&mut Cache>) -> Result<Tensor> {
        let attended = self
            .attention
            .forward(&self.norm1.forward(x)?, Mask::Causal, cache)?;
        let x = (x + attended)?;
        // By the error function, not its approximation.
        let wide = (self.widen.forward(&self.norm2.forward(&x)?)?).gelu_erf()?;
        &x + self.narrow.forward(&wide)?
    }
}
