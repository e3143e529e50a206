//! The network's configuration: what the tensors' shapes follow from.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A VQGAN-LC network as data. Field names are those of published VQGAN configurations.
///
/// Unknown fields are refused: they might change what the tensors mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqganConfig {
    /// Channels of the first level.
    pub ch: usize,
    /// Channels of each level as a multiple of `ch`; a level halves the picture, so the factor is 2^(levels - 1).
    pub ch_mult: Vec<usize>,
    /// Residual blocks a level in the encoder; the decoder has one more.
    pub num_res_blocks: usize,
    /// Resolutions (for a picture of `resolution`) whose levels carry attention.
    pub attn_resolutions: Vec<usize>,
    /// The configured picture side, pixels. Other sizes run too; attention sits at the same levels whatever the size.
    pub resolution: usize,
    /// Channels of the pictures read (3).
    pub in_channels: usize,
    /// Channels of the pictures made (3).
    pub out_ch: usize,
    /// Channels between encoder and quant_conv.
    pub z_channels: usize,
    /// Whether the encoder gives mean and log variance. VQGAN does not.
    #[serde(default)]
    pub double_z: bool,
    /// Dimension of a codebook entry after projection (paper: D' = 8).
    pub embed_dim: usize,
    /// Entries N of the codebook (paper: 100,000).
    pub n_codes: usize,
    /// Dimension D of the static codebook (paper: 768 for CLIP ViT-L/14).
    pub code_dim: usize,
    /// Channels in a group of each GroupNorm; without it there are 32 groups, as published. Small networks use 4:
    /// with 32 groups on 32 channels each channel is normalised by itself, which wipes out colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_group_size: Option<usize>,
}

/// Numbers in a projected codebook at most, 1 GiB.
const MAX_TABLE: usize = 1 << 28;

/// The number of GroupNorm groups in published networks.
const PUBLISHED_GROUPS: usize = 32;

impl VqganConfig {
    /// Names that [`Self::preset`] knows.
    pub const PRESETS: [&str; 4] = ["paper-f16", "paper-f8", "small-f16", "tiny-f16"];

    /// A configuration by name.
    ///
    /// `paper-f16`: 256x256 -> 16x16 ids, 71.8 M parameters (paper section 4). `paper-f8`: 32x32 ids.
    /// `small-f16`: 4.4 M parameters. `tiny-f16`: for tests.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown name.
    pub fn preset(name: &str) -> Result<Self> {
        let paper = Self {
            ch: 128,
            ch_mult: vec![1, 1, 2, 2, 4],
            num_res_blocks: 2,
            attn_resolutions: vec![16],
            resolution: 256,
            in_channels: 3,
            out_ch: 3,
            z_channels: 256,
            double_z: false,
            embed_dim: 8,
            n_codes: 100_000,
            code_dim: 768,
            norm_group_size: None,
        };
        match name {
            "paper-f16" => Ok(paper),
            "paper-f8" => Ok(Self {
                ch_mult: vec![1, 2, 2, 4],
                ..paper
            }),
            "small-f16" => Ok(Self {
                ch: 32,
                ch_mult: vec![1, 1, 2, 4, 4],
                num_res_blocks: 1,
                z_channels: 128,
                code_dim: 112,
                norm_group_size: Some(4),
                ..paper
            }),
            "tiny-f16" => Ok(Self {
                ch: 4,
                ch_mult: vec![1, 1, 2, 2, 2],
                num_res_blocks: 1,
                z_channels: 8,
                n_codes: 1000,
                code_dim: 16,
                norm_group_size: Some(4),
                ..paper
            }),
            _ => Err(Error::Config(format!(
                "unknown preset {name:?}; known: {}",
                Self::PRESETS.join(", ")
            ))),
        }
    }

    /// A network of the paper's f16 shape with `ch` channels at the first level, for measuring speed.
    pub fn paper_with_width(ch: usize) -> Result<Self> {
        let config = Self {
            ch,
            norm_group_size: (!ch.is_multiple_of(PUBLISHED_GROUPS)).then_some(4),
            ..Self::preset("paper-f16")?
        };
        config.check()?;
        Ok(config)
    }

    /// Pixels a side that one token stands for: 2^(levels - 1).
    pub fn factor(&self) -> usize {
        1 << (self.ch_mult.len().saturating_sub(1))
    }

    /// GroupNorm groups for `channels`.
    pub fn groups(&self, channels: usize) -> usize {
        match self.norm_group_size {
            Some(size) => channels / size,
            None => PUBLISHED_GROUPS,
        }
    }

    /// Whether level `level` (0 is the full size) carries attention.
    pub fn has_attention(&self, level: usize) -> bool {
        self.attn_resolutions.contains(&(self.resolution >> level))
    }

    /// Checks that a network can be built, before any allocation is sized by these numbers.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::Config(what));
        if self.double_z {
            return bad("double_z is not supported: a VQGAN encoder has one output".into());
        }
        if self.in_channels != 3 || self.out_ch != 3 {
            return bad(format!(
                "in_channels {} and out_ch {} must be 3",
                self.in_channels, self.out_ch
            ));
        }
        if self.ch_mult.is_empty() || self.ch_mult.len() > 8 {
            return bad(format!(
                "ch_mult has {} levels, expected 1 to 8",
                self.ch_mult.len()
            ));
        }
        for (name, value, max) in [
            ("ch", self.ch, 4096),
            ("num_res_blocks", self.num_res_blocks, 64),
            ("resolution", self.resolution, 1 << 16),
            ("z_channels", self.z_channels, 1 << 16),
            ("embed_dim", self.embed_dim, vqlc_ops::MAX_DIM),
            ("n_codes", self.n_codes, 1 << 24),
            ("code_dim", self.code_dim, 1 << 16),
        ] {
            if value == 0 || value > max {
                return bad(format!("{name} is {value}, expected 1 to {max}"));
            }
        }
        if self.n_codes * self.embed_dim > MAX_TABLE {
            return bad(format!(
                "a codebook of {} x {} numbers, expected at most {MAX_TABLE}",
                self.n_codes, self.embed_dim
            ));
        }
        // The first residual block normalises `ch` channels, whatever its level gives.
        for mult in self.ch_mult.iter().copied().chain([1]) {
            let channels = self.ch.saturating_mul(mult);
            let divisor = self.norm_group_size.unwrap_or(PUBLISHED_GROUPS);
            if mult == 0 || channels > 1 << 16 || divisor == 0 || !channels.is_multiple_of(divisor)
            {
                return bad(format!(
                    "a level of {channels} channels cannot be divided into GroupNorm groups by {divisor}"
                ));
            }
        }
        Ok(())
    }

    /// What the tensors alone do not tell about a half of the network; part of its digest.
    pub(crate) fn digest_note(&self) -> String {
        match self.norm_group_size {
            Some(size) => format!("group_size={size}"),
            None => format!("groups={PUBLISHED_GROUPS}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_survive_json() {
        for name in VqganConfig::PRESETS {
            let config = VqganConfig::preset(name).unwrap();
            config.check().unwrap();
            assert_eq!(
                serde_json::from_str::<VqganConfig>(&serde_json::to_string(&config).unwrap())
                    .unwrap(),
                config
            );
        }
        assert_eq!(VqganConfig::preset("paper-f16").unwrap().factor(), 16);
        assert_eq!(VqganConfig::preset("paper-f8").unwrap().factor(), 8);
        assert!(VqganConfig::preset("paper").is_err());
    }

    #[test]
    fn hostile_numbers_are_refused() {
        let good = VqganConfig::preset("tiny-f16").unwrap();
        for bad in [
            VqganConfig {
                ch: 0,
                ..good.clone()
            },
            VqganConfig {
                ch: usize::MAX,
                ..good.clone()
            },
            VqganConfig {
                ch_mult: vec![],
                ..good.clone()
            },
            VqganConfig {
                ch_mult: vec![1; 64],
                ..good.clone()
            },
            VqganConfig {
                n_codes: usize::MAX,
                ..good.clone()
            },
            VqganConfig {
                norm_group_size: Some(0),
                ..good.clone()
            },
            VqganConfig {
                norm_group_size: None,
                ..good.clone()
            },
            VqganConfig {
                in_channels: 4,
                ..good
            },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
