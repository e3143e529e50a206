//! fc: few dimensions, both sides normalised, nearest by cosine.

use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder};

use super::{Match, QuantizerConfig, nearest};
use crate::Result;

/// The codebook's name.
pub(super) const TABLE: &str = "codebook.weight";

/// Least norm that is divided by.
const EPS: f32 = 1e-12;

pub(super) struct Factorised {
    /// Weight and bias.
    project_in: [Tensor; 2],
    codebook: Tensor,
    project_out: [Tensor; 2],
}

impl Factorised {
    pub(super) fn new(config: &QuantizerConfig, vb: &VarBuilder) -> candle_core::Result<Self> {
        let (dim, low) = (config.dim, config.fc_dim);
        let normal = Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        };
        Ok(Self {
            project_in: linear(dim, low, &vb.pp("project_in"))?,
            codebook: vb.get_with_hints((config.codes, low), TABLE, normal)?,
            project_out: linear(low, dim, &vb.pp("project_out"))?,
        })
    }

    /// Among unit vectors the nearest is the one of greatest cosine.
    pub(super) fn find(&self, z: Tensor) -> Result<Match> {
        let y = unit(&apply(&self.project_in, &z)?)?;
        let ids = nearest(&y, &unit(&self.codebook.detach())?)?;
        let q = unit(&self.codebook.index_select(&ids, 0)?)?;
        Ok(Match { z: y, q, ids })
    }

    /// Rows `[m, fc_dim]` to what the decoder gets, `[m, dim]`.
    pub(super) fn to_decoder(&self, rows: &Tensor) -> Result<Tensor> {
        apply(&self.project_out, rows)
    }
}

/// New weights are drawn as PyTorch draws them, uniform within 1/sqrt(inputs).
fn linear(inputs: usize, outputs: usize, vb: &VarBuilder) -> candle_core::Result<[Tensor; 2]> {
    let bound = (inputs as f64).powf(-0.5);
    let init = Init::Uniform {
        lo: -bound,
        up: bound,
    };
    Ok([
        vb.get_with_hints((outputs, inputs), "weight", init)?,
        vb.get_with_hints(outputs, "bias", init)?,
    ])
}

fn apply([weight, bias]: &[Tensor; 2], rows: &Tensor) -> Result<Tensor> {
    Ok(rows.matmul(&weight.t()?)?.broadcast_add(bias)?)
}

/// Rows divided by their norms.
fn unit(rows: &Tensor) -> Result<Tensor> {
    let norm = rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    Ok(rows.broadcast_div(&norm.maximum(EPS)?)?)
}
