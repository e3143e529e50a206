//! What a quantizer is made with.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Where the entries of the codebook come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// VQGAN-LC: a static codebook of pretrained features, projected to the latents' dimension (paper section 3.2).
    Lc,
    /// VQGAN: a table trained by gradients.
    Vq,
    /// VQGAN-FC: latents projected to few dimensions, both sides normalised, nearest by cosine (Yu et al. 2021).
    Fc,
    /// VQGAN-EMA: a table of moving averages of the latents assigned to its entries (van den Oord et al. 2017, appendix A.1).
    Ema,
}

/// A quantizer's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuantizerConfig {
    /// Which quantizer.
    pub kind: Kind,
    /// N, entries of the codebook; at least 1.
    pub codes: usize,
    /// D', channels of the latents; at least 1.
    pub dim: usize,
    /// lc: whether the codebook is projected. Without, its entries have `dim` numbers.
    pub projector: bool,
    /// lc: whether the codebook itself is trained too.
    pub codebook_trainable: bool,
    /// Weight of the codebook loss beside the commitment loss; at least 0.
    pub beta: f64,
    /// fc: dimensions the search is in; at least 1.
    pub fc_dim: usize,
    /// ema: decay of the averages each step, in [0, 1).
    pub ema_decay: f64,
    /// ema: what is added to each entry's count so that none is 0; above 0.
    pub ema_eps: f64,
}

impl Default for QuantizerConfig {
    /// The paper's.
    fn default() -> Self {
        Self {
            kind: Kind::Lc,
            codes: 100_000,
            dim: 8,
            projector: true,
            codebook_trainable: false,
            beta: 0.33,
            fc_dim: 8,
            ema_decay: 0.99,
            ema_eps: 1e-5,
        }
    }
}

impl QuantizerConfig {
    /// Refuses what no quantizer can be made with.
    ///
    /// # Errors
    /// [`Error::Config`] naming the value.
    pub fn check(&self) -> Result<()> {
        let refused = [
            (
                "codes",
                self.codes == 0 || u32::try_from(self.codes).is_err(),
            ),
            ("dim", self.dim == 0),
            ("fc_dim", self.fc_dim == 0),
            ("beta", !(self.beta >= 0.0 && self.beta.is_finite())),
            ("ema_decay", !(0.0..1.0).contains(&self.ema_decay)),
            ("ema_eps", !(self.ema_eps > 0.0 && self.ema_eps.is_finite())),
        ];
        match refused.iter().find(|(_, bad)| *bad) {
            Some((name, _)) => Err(Error::Config(format!("quantizer: {name} is out of range"))),
            None => Ok(()),
        }
    }
}
