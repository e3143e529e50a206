//! vq: a table trained by gradients.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};

use super::{Match, QuantizerConfig, nearest};
use crate::Result;

/// The table's name, as in published checkpoints.
pub(super) const TABLE: &str = "tok_embeddings.weight";

pub(super) struct Learnt(Tensor);

impl Learnt {
    /// A table drawn uniformly within 1/codes, as VQGAN does.
    pub(super) fn new(config: &QuantizerConfig, vb: &VarBuilder) -> candle_core::Result<Self> {
        let bound = 1.0 / config.codes as f64;
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        vb.get_with_hints((config.codes, config.dim), TABLE, init)
            .map(Self)
    }

    pub(super) fn find(&self, z: Tensor) -> Result<Match> {
        let ids = nearest(&z, &self.0)?;
        let q = self.0.index_select(&ids, 0)?;
        Ok(Match { z, q, ids })
    }

    pub(super) fn table(&self) -> Tensor {
        self.0.detach()
    }
}
