//! Continuing token by token.

use candle_core::{Device, Result, Tensor};

use super::{Gpt, network::Tables};
use crate::nn::Cache;

/// Continues rows of tokens: what was looked at is kept, so that a new token costs one token's work.
pub struct Decoder<'a> {
    gpt: &'a Gpt,
    tables: Tables,
    /// The head's weights of ids, `[codes, width]`.
    head: Tensor,
    /// With the class, and where there is guidance without it.
    branches: Vec<Vec<Cache>>,
    guidance: f64,
    /// Tokens taken; none after an error, when some layers may have taken more than others.
    seen: Option<usize>,
}

impl<'a> Decoder<'a> {
    /// Begins. `guidance` s makes logits of u + s (c - u), c those with the class and u those with null in its place (Ho and Salimans 2022);
    /// 1 is no guidance, and costs half.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn new(gpt: &'a Gpt, guidance: f64) -> Result<Self> {
        let branches = if guidance == 1.0 { 1 } else { 2 };
        // Nothing is learned here: what is kept must not keep what it was computed from.
        let tables = gpt.tables()?.detach();
        Ok(Self {
            gpt,
            head: tables.head.narrow(0, 0, gpt.config().codes)?,
            tables,
            branches: (0..branches).map(|_| gpt.caches()).collect(),
            guidance,
            seen: Some(0),
        })
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        self.head.device()
    }

    /// Takes the next tokens of all rows, `[b, t]` (u32), the first of all being the class tokens, and gives the logits `[b, codes]` of the
    /// id that follows.
    ///
    /// # Errors
    /// More tokens than the network can look at, or none; a tensor operation's. After an error it cannot go on.
    pub fn push(&mut self, tokens: &Tensor) -> Result<Tensor> {
        let (_, count) = tokens.dims2()?;
        let Some(seen) = self.seen.take() else {
            candle_core::bail!("a decoder that met an error cannot go on");
        };
        if count == 0 {
            candle_core::bail!("no tokens to go on from");
        }
        let mut logits = Vec::with_capacity(2);
        for (branch, caches) in self.branches.iter_mut().enumerate() {
            let unguided;
            let tokens = if branch == 1 && seen == 0 {
                unguided = without_class(self.gpt, tokens)?;
                &unguided
            } else {
                tokens
            };
            let hidden = self.gpt.hidden_after(&self.tables, tokens, seen, caches)?;
            let last = hidden.narrow(1, count - 1, 1)?.squeeze(1)?;
            logits.push(last.matmul(&self.head.t()?)?);
        }
        self.seen = Some(seen + count);
        match &logits[..] {
            [with, without] => without + ((with - without)? * self.guidance)?,
            _ => Ok(logits.swap_remove(0)),
        }
    }
}

/// Null in place of the first token of each row.
fn without_class(gpt: &Gpt, tokens: &Tensor) -> Result<Tensor> {
    let (batch, count) = tokens.dims2()?;
    let null = Tensor::full(gpt.config().null(), (batch, 1), tokens.device())?;
    if count == 1 {
        return Ok(null);
    }
    Tensor::cat(&[&null, &tokens.narrow(1, 1, count - 1)?], 1)
}
