//! lc: a static codebook and a trained projector.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::Init;
use vqlc_model::{
    file::{PROJECTOR, SOURCE},
    params::{RandomParams, Tensors},
};

use super::{Match, QuantizerConfig, align_projector, nearest, no_projector};
use crate::{Params, Result};

pub(super) struct Projected {
    /// B, `[codes, D]`; a parameter where it is trained.
    book: Tensor,
    /// Weight `[dim, D]` and bias `[dim]`.
    projector: Option<[Var; 2]>,
}

impl Projected {
    pub(super) fn new(
        config: &QuantizerConfig,
        book: Tensor,
        seed: u64,
        device: &Device,
    ) -> Result<(Self, Params)> {
        let dim = config.dim;
        let mut tensors = Tensors::new();
        if config.projector {
            let width = book.dim(1)?;
            // As the published code starts it: not by the width it sums over, but by the one it makes.
            let weight = Init::Randn {
                mean: 0.0,
                stdev: (dim as f64).powf(-0.5),
            };
            (_, tensors) = RandomParams::build(seed, &Device::Cpu, |vb| {
                vb.get_with_hints((dim, width), PROJECTOR[0], weight)?;
                vb.get_with_hints(dim, PROJECTOR[1], Init::Const(0.0))
            })?;
        }
        if config.codebook_trainable {
            tensors.insert(SOURCE.into(), book.clone());
        }
        let (_, params) = Params::from_tensors(&tensors, device, DType::F32, |vb| {
            for (name, tensor) in &tensors {
                vb.get(tensor.shape(), name)?;
            }
            Ok(())
        })?;
        let book = match params.get(SOURCE) {
            Some(var) => var.as_tensor().clone(),
            None => book,
        };
        let [weight, bias] = PROJECTOR.map(|name| params.get(name).cloned());
        let projector = weight.zip(bias).map(|(weight, bias)| [weight, bias]);
        Ok((Self { book, projector }, params))
    }

    /// Only the entries that are used go through the projector a second time, with gradients: a step then needs no sum over all of
    /// the codebook, and nothing that scatters.
    pub(super) fn find(&self, z: Tensor) -> Result<Match> {
        let ids = nearest(&z, &self.table()?)?;
        let q = self.project(&self.book.index_select(&ids, 0)?)?;
        Ok(Match { z, q, ids })
    }

    /// B' = P(B), `[codes, dim]`, without gradients.
    pub(super) fn table(&self) -> Result<Tensor> {
        let Some([weight, bias]) = &self.projector else {
            return Ok(self.book.detach());
        };
        let product = self
            .book
            .detach()
            .matmul(&weight.as_tensor().detach().t()?)?;
        Ok(product.broadcast_add(&bias.as_tensor().detach())?)
    }

    fn project(&self, rows: &Tensor) -> Result<Tensor> {
        match &self.projector {
            Some([weight, bias]) => Ok(rows
                .matmul(&weight.as_tensor().t()?)?
                .broadcast_add(bias.as_tensor())?),
            None => Ok(rows.clone()),
        }
    }

    pub(super) fn align(&self, latents: &Tensor) -> Result<()> {
        let [weight, bias] = self.projector.as_ref().ok_or_else(no_projector)?;
        let (new_weight, new_bias) = align_projector(&self.book.detach(), latents)?;
        weight.set(&new_weight.to_device(weight.device())?)?;
        bias.set(&new_bias.to_device(bias.device())?)?;
        Ok(())
    }

    pub(super) fn published(&self) -> Result<Tensors> {
        let [weight, bias] = self.projector.as_ref().ok_or_else(no_projector)?;
        let parts = [
            (SOURCE, &self.book),
            (PROJECTOR[0], weight.as_tensor()),
            (PROJECTOR[1], bias.as_tensor()),
        ];
        let copy = |(name, tensor): (&str, &Tensor)| Ok((name.to_owned(), tensor.copy()?.detach()));
        parts.into_iter().map(copy).collect()
    }
}
