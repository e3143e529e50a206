//! What a quantizer is made with.

use crate::{Error, Result, config::QuantizerKind};

/// A quantizer's sizes and constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizerConfig {
    /// Which quantizer.
    pub kind: QuantizerKind,
    /// N, entries of the codebook; at least 1.
    pub codes: usize,
    /// D', channels of the latents; at least 1.
    pub dim: usize,
    /// lc: D, numbers in each entry of the static codebook; without projector this is `dim`.
    pub code_dim: usize,
    /// lc: whether the codebook is projected.
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
            (
                "code_dim",
                self.code_dim == 0
                    || self.kind == QuantizerKind::Lc
                        && !self.projector
                        && self.code_dim != self.dim,
            ),
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

    /// The shape of the codebook it is made with.
    pub(super) fn book_shape(&self) -> [usize; 2] {
        let width = match self.kind {
            QuantizerKind::Lc => self.code_dim,
            QuantizerKind::Fc => self.fc_dim,
            QuantizerKind::Vq | QuantizerKind::Ema => self.dim,
        };
        [self.codes, width]
    }
}
