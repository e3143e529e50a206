//! The sizes of a UNet.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// GroupNorm groups of published networks.
const GROUPS: usize = 32;
/// Channels of a level at most.
const WIDEST: usize = 1 << 14;

/// The sizes of a UNet. Its levels halve rows and columns from one to the next; `mult` and `attention` have an entry for each.
///
/// VQGAN-LC's latents are 16x16, its widths 256 and 1024 (paper section 4): `base` 256 and `mult` `[1, 4]` or `[1, 4, 4]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Channels of the latents.
    pub channels: usize,
    /// Rows of the latents, a multiple of 2^(levels - 1).
    pub rows: usize,
    /// Columns of the latents, a multiple of 2^(levels - 1).
    pub cols: usize,
    /// Classes; the one behind them stands for none.
    pub classes: usize,
    /// Channels that the first convolution makes, and waves that times are embedded in; even.
    pub base: usize,
    /// Channels of each level as a multiple of `base`.
    pub mult: Vec<usize>,
    /// Residual blocks of a level on the way down; on the way up it has one more.
    pub blocks: usize,
    /// Whether the residual blocks of each level are followed by transformers. The middle always has one.
    pub attention: Vec<bool>,
    /// Heads of the attention, a divisor of the channels wherever there is a transformer.
    pub heads: usize,
    /// Numbers of a class's embedding.
    pub context: usize,
    /// GroupNorm groups, a divisor of the channels of all levels: 32 as published, fewer for small networks.
    #[serde(default = "published_groups")]
    pub groups: usize,
}

fn published_groups() -> usize {
    GROUPS
}

impl UnetConfig {
    /// Channels of each level.
    pub(super) fn widths(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        self.mult.iter().map(|mult| self.base.saturating_mul(*mult))
    }

    /// Checks that a network can be built, before anything is sized by these numbers.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub fn check(&self) -> Result<()> {
        for (name, value, most) in [
            ("channels", self.channels, 1 << 12),
            ("rows", self.rows, 1 << 12),
            ("cols", self.cols, 1 << 12),
            ("base", self.base, WIDEST),
            ("mult's number of levels", self.mult.len(), 8),
            ("blocks", self.blocks, 64),
            ("heads", self.heads, 1 << 10),
            ("context", self.context, 1 << 14),
            ("groups", self.groups, 1 << 10),
        ] {
            if value == 0 || value > most {
                return bad(format!("{name} is {value}, expected 1 to {most}"));
            }
        }
        if !self.base.is_multiple_of(2) {
            return bad(format!("base is {}, expected an even number", self.base));
        }
        if self.attention.len() != self.mult.len() {
            return bad(format!(
                "attention has {} levels and mult {}, expected as many",
                self.attention.len(),
                self.mult.len()
            ));
        }
        let side = 1 << (self.mult.len() - 1);
        for (name, value) in [("rows", self.rows), ("cols", self.cols)] {
            if !value.is_multiple_of(side) {
                return bad(format!("{name} is {value}, expected a multiple of {side}"));
            }
        }
        self.check_widths()
    }

    fn check_widths(&self) -> Result<()> {
        // The first convolution's channels are normalised too, whatever the first level has.
        for width in self.widths().chain([self.base]) {
            if width == 0 || width > WIDEST || !width.is_multiple_of(self.groups) {
                return bad(format!(
                    "a level of {width} channels, expected a multiple of groups {} up to {WIDEST}",
                    self.groups
                ));
            }
        }
        let last = self.mult.len() - 1;
        for (level, width) in self.widths().enumerate() {
            // The middle is as wide as the last level.
            let attends = self.attention[level] || level == last;
            if attends && !width.is_multiple_of(self.heads) {
                return bad(format!(
                    "heads is {}, expected a divisor of {width} channels",
                    self.heads
                ));
            }
        }
        Ok(())
    }
}

fn bad(what: String) -> Result<()> {
    Err(Error::Config(format!("UNet: {what}")))
}
