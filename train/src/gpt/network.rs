//! The network.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::nn::{Attention, Block, Cache, Gelu, LayerNorm, Linear, LinearInit, Mask, Mlp};

const EPS: f64 = 1e-5;
/// Of new vectors, as GPT-2's.
pub(super) const DEVIATION: f64 = 0.02;

/// Where the vectors of ids come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Embedding {
    /// A table of their own, drawn at random.
    #[default]
    Learnt,
    /// A table of their own that starts as the projected codebook's entries, taken to the width by a random map.
    Start,
    /// The projected codebook's entries themselves, which stay as they are, taken to the width by a learnt map: ids that look alike are
    /// alike, and there is nothing to learn of an id that training never met.
    Codebook,
}

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
    /// Where the vectors of ids come from.
    pub embedding: Embedding,
    /// Whether the head's weights are the vectors of the tokens.
    pub tied: bool,
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
    vectors: Vectors,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    /// Where the head has weights of its own.
    head: Option<Linear>,
}

/// What the vectors of tokens are made of.
#[derive(Debug)]
enum Vectors {
    /// `[vocabulary, width]`.
    Table(Tensor),
    /// Codebook entries `[codes, dim]` of deviation 1, the map that takes them to the width, and `[classes + 1, width]` for the rest.
    Lifted {
        entries: Tensor,
        lift: Linear,
        classes: Tensor,
    },
}

/// The vectors of tokens and the head's weights as they are now, `[vocabulary, width]` each.
#[derive(Clone, Debug)]
pub struct Tables {
    tokens: Tensor,
    /// What logits are taken with.
    pub head: Tensor,
}

impl Tables {
    /// The same without a graph.
    pub fn detach(&self) -> Self {
        Self {
            tokens: self.tokens.detach(),
            head: self.head.detach(),
        }
    }
}

impl Gpt {
    /// Builds it from parameters with minGPT's names. `codebook` is B' `[codes, dim]`, asked for by [`Embedding::Codebook`] alone.
    ///
    /// # Errors
    /// Heads that do not divide the width; a codebook that is missing; what the builder says.
    pub fn new(config: GptConfig, codebook: Option<&Tensor>, vb: &VarBuilder) -> Result<Self> {
        let GptConfig { width, .. } = config;
        let init = Init::Randn {
            mean: 0.0,
            stdev: DEVIATION,
        };
        let blocks = (0..config.layers)
            .map(|i| block(&config, &vb.pp("blocks").pp(i)))
            .collect::<Result<_>>()?;
        let vectors = match config.embedding {
            Embedding::Learnt | Embedding::Start => {
                let shape = (config.vocabulary(), width);
                Vectors::Table(vb.get_with_hints(shape, "tok_emb.weight", init)?)
            }
            Embedding::Codebook => {
                let Some(codebook) = codebook else {
                    candle_core::bail!("the embedding takes the codebook, and there is none");
                };
                let entries = unit_deviation(codebook)?;
                let dim = entries.dim(1)?;
                let drawn = LinearInit::Normal(DEVIATION / (dim as f64).sqrt());
                let others = (config.classes + 1, width);
                Vectors::Lifted {
                    entries,
                    lift: Linear::drawn(dim, width, drawn, &vb.pp("tok_lift"))?,
                    classes: vb.get_with_hints(others, "class_emb.weight", init)?,
                }
            }
        };
        let head = || Linear::without_bias(width, config.vocabulary(), &vb.pp("head"));
        Ok(Self {
            config,
            vectors,
            positions: vb.get_with_hints((1, config.tokens, width), "pos_emb", init)?,
            blocks,
            norm: LayerNorm::new(width, EPS, &vb.pp("ln_f"))?,
            head: (!config.tied).then(head).transpose()?,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// The vectors of tokens and the head's weights as the parameters are now.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn tables(&self) -> Result<Tables> {
        let tokens = match &self.vectors {
            Vectors::Table(table) => table.clone(),
            Vectors::Lifted {
                entries,
                lift,
                classes,
            } => Tensor::cat(&[&lift.forward(entries)?, classes], 0)?,
        };
        let head = match &self.head {
            Some(head) => head.weight().clone(),
            None => tokens.clone(),
        };
        Ok(Tables { tokens, head })
    }

    /// What the head is taken of, `[b, t, width]`, for tokens `[b, t]` (u32).
    ///
    /// # Errors
    /// More tokens than the network can look at; a tensor operation's.
    pub fn hidden(&self, tables: &Tables, tokens: &Tensor) -> Result<Tensor> {
        self.run(tables, tokens, 0, None)
    }

    /// As [`Self::hidden`], for tokens that stand behind those in `caches`, one for each block, which they join.
    pub(super) fn hidden_after(
        &self,
        tables: &Tables,
        tokens: &Tensor,
        before: usize,
        caches: &mut [Cache],
    ) -> Result<Tensor> {
        self.run(tables, tokens, before, Some(caches))
    }

    fn run(
        &self,
        tables: &Tables,
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
        let x = tables.tokens.index_select(&tokens.flatten_all()?, 0)?;
        let x = x.reshape((batch, count, self.config.width))?;
        let mut x = x.broadcast_add(&self.positions.narrow(1, before, count)?)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let cache = caches.as_deref_mut().map(|caches| &mut caches[i]);
            x = block.forward(&x, Mask::Causal, cache)?;
        }
        self.norm.forward(&x)
    }

    /// A cache for each block.
    pub(super) fn caches(&self) -> Vec<Cache> {
        self.blocks.iter().map(|_| Cache::default()).collect()
    }
}

/// Entries over their common deviation.
pub(super) fn unit_deviation(entries: &Tensor) -> Result<Tensor> {
    let deviation = entries.sqr()?.mean_all()?.sqrt()?.to_scalar::<f32>()?;
    entries / f64::from(deviation.max(f32::MIN_POSITIVE))
}

/// A block with minGPT's names.
fn block(config: &GptConfig, vb: &VarBuilder) -> Result<Block> {
    let GptConfig { width, heads, .. } = *config;
    let names = ["query", "key", "value", "proj"];
    Ok(Block {
        norm1: LayerNorm::new(width, EPS, &vb.pp("ln1"))?,
        attention: Attention::new(width, heads, names, &vb.pp("attn"))?,
        norm2: LayerNorm::new(width, EPS, &vb.pp("ln2"))?,
        mlp: Mlp::new(width, ["0", "2"], Gelu::Erf, LinearInit::GPT, &vb.pp("mlp"))?,
    })
}
