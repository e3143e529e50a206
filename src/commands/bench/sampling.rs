//! Sampling ids with a GPT, with what was looked at kept and without.

use std::time::Duration;

use vqlc_model::{Precision, rng::Rng};
use vqlc_train::{
    Params,
    gpt::{Choice, Embedding, Gpt, GptConfig, Work, draw_ids},
};

use super::{BenchArgs, GRID, Measured, What, measure};

/// Pictures at once unless another number is asked for.
const BATCH: usize = 4;
const TOKENS: usize = (GRID * GRID) as usize;

/// A GPT of the size of preset tiny, with random weights.
pub(super) struct Sampling {
    gpt: Gpt,
    batch: usize,
    detail: String,
}

impl Sampling {
    pub(super) fn new(args: &BenchArgs) -> anyhow::Result<Self> {
        let device = args.network.device().open()?;
        let batch = args.batch.map_or(BATCH, usize::from);
        let config = GptConfig {
            codes: args.codes as usize,
            classes: 0,
            tokens: TOKENS,
            width: 128,
            layers: 4,
            heads: 4,
            embedding: Embedding::Learnt,
            tied: false,
        };
        let (gpt, _) = Params::random(0, &device, Precision::F32.dtype(), |vb| {
            Gpt::new(config, None, &vb)
        })?;
        Ok(Self {
            gpt,
            batch,
            detail: format!(
                "gpt tiny, {} codes, {batch} pictures of {TOKENS}",
                args.codes
            ),
        })
    }

    /// With keys and values kept, or all of it computed again for each token.
    pub(super) fn draw(&self, what: What, budget: Duration) -> anyhow::Result<Measured> {
        let (work, how) = match what {
            What::Resample => (Work::All, ", all computed again for each token"),
            _ => (Work::Last, ""),
        };
        let config = self.gpt.config();
        let choice = Choice::of(config.codes, 1.0);
        let detail = format!("{}{how}", self.detail);
        let tokens = (self.batch * TOKENS) as f64;
        measure(what, "tokens", detail, tokens, budget, || {
            let mut draws: Vec<Rng> = (0..self.batch as u64).map(Rng::new).collect();
            let first = vec![config.null(); self.batch];
            draw_ids(&self.gpt, first, TOKENS, &choice, &mut draws, work)?;
            Ok(())
        })
    }
}
