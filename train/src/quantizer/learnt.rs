//! vq: a table trained by gradients.

use candle_core::{Device, Tensor, Var};
use candle_nn::Init;

use super::{Match, QuantizerConfig, checked, nearest, with_start};
use crate::{Params, Result};

/// The table's name, as in published checkpoints.
const TABLE: &str = vqlc_model::file::SOURCE;

pub(super) struct Learnt(Var);

impl Learnt {
    /// A table drawn uniformly within 1/codes, as VQGAN does, where no start is given.
    pub(super) fn new(
        config: &QuantizerConfig,
        start: Option<Tensor>,
        seed: u64,
        device: &Device,
    ) -> Result<(Self, Params)> {
        let bound = 1.0 / config.codes as f64;
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let shape = config.book_shape();
        let (_, params) = with_start(start, TABLE, seed, device, |vb| {
            vb.get_with_hints(&shape, TABLE, init)
        })?;
        let missing = || vqlc_model::Error::MissingTensor {
            name: TABLE.into(),
            expected: shape.to_vec(),
        };
        let table = params.get(TABLE).cloned().ok_or_else(missing)?;
        Ok((Self(table), params))
    }

    pub(super) fn find(&self, z: Tensor) -> Result<Match> {
        let ids = nearest(&z, &self.0)?;
        let q = self.0.index_select(&ids, 0)?;
        Ok(Match { z, q, ids })
    }

    pub(super) fn table(&self) -> Tensor {
        self.0.detach()
    }

    pub(super) fn set(&self, table: &Tensor, shape: &[usize; 2]) -> Result<()> {
        Ok(self.0.set(&checked(table, shape, self.0.device())?)?)
    }
}
