//! `[model]`: the networks and how they learn.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::{
    Result,
    config::{bad, check_counts},
    gpt::Embedding,
    unet::UnetConfig,
};

/// `[model]`, by its key `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ModelSection {
    /// See [`Kind::Gpt`].
    Gpt(GptSection),
    /// See [`Kind::Vit`].
    Vit(VitSection),
    /// See [`Kind::Dit`].
    Dit(DitSection),
    /// See [`Kind::Sit`].
    Sit(DitSection),
    /// See [`Kind::Ldm`].
    Ldm(LdmSection),
}

/// `kind = "gpt"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptSection {
    /// Blocks.
    pub layers: usize,
    /// Heads of the attention, a divisor of `width`.
    pub heads: usize,
    /// Numbers of a token.
    pub width: usize,
    /// Where the vectors of ids come from.
    pub embedding: Embedding,
    /// Whether the head's weights are the vectors of the tokens.
    pub tied: bool,
    /// Share of the pictures whose class is hidden, for guidance.
    pub class_dropout: f64,
    /// Share of the target that is spread evenly over all ids.
    pub smoothing: f64,
    /// Guidance that samples are drawn with unless another is asked for; 1 is none.
    pub guidance: f64,
}

/// What a ViT sees of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VitInput {
    /// The codebook's entry, over the per-channel deviation of the training set's.
    Codebook,
    /// A vector of its own that is learned.
    Learnt,
}

/// `kind = "vit"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitSection {
    /// Blocks.
    pub layers: usize,
    /// Heads of the attention, a divisor of `width`.
    pub heads: usize,
    /// Numbers of a token.
    pub width: usize,
    /// Side of the square of ids that one token stands for.
    pub patch: usize,
    /// What it sees of an id.
    pub input: VitInput,
    /// Numbers of an id's vector, where it is learned.
    pub channels: usize,
    /// Weights that a masked autoencoder was pretrained to, if there are any.
    pub weights: Option<PathBuf>,
    /// Learning rate of a block as a share of that of the block behind it; 1: all have the same.
    pub layer_decay: f64,
    /// Share of the target that is spread evenly over all classes.
    pub smoothing: f64,
    /// Parameter of the beta distribution that shares of two pictures blended into one are drawn from; 0 blends none.
    pub mixup: f64,
    /// The same for pictures of which a rectangle of ids is another's; 0 cuts none. Where both are given each has half of the batches.
    pub cutmix: f64,
}

/// `kind = "dit"` and `kind = "sit"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DitSection {
    /// Blocks.
    pub layers: usize,
    /// Heads of the attention, a divisor of `width`.
    pub heads: usize,
    /// Numbers of a token.
    pub width: usize,
    /// Side of the square of latents that one token stands for.
    pub patch: usize,
    /// Share of the pictures whose class is hidden, for guidance.
    pub class_dropout: f64,
    /// Guidance that samples are drawn with unless another is asked for; 1 is none.
    pub guidance: f64,
    /// Steps of sampling unless others are asked for.
    pub sampling_steps: usize,
}

/// `kind = "ldm"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdmSection {
    /// Channels of the first convolution.
    pub base: usize,
    /// Channels of each level as a multiple of `base`.
    pub mult: Vec<usize>,
    /// Residual blocks of a level on the way down.
    pub blocks: usize,
    /// Whether the blocks of each level are followed by transformers.
    pub attention: Vec<bool>,
    /// Heads of the attention.
    pub heads: usize,
    /// Numbers of a class's embedding.
    pub context: usize,
    /// GroupNorm groups.
    pub groups: usize,
    /// Share of the pictures whose class is hidden, for guidance.
    pub class_dropout: f64,
    /// Guidance that samples are drawn with unless another is asked for; 1 is none.
    pub guidance: f64,
    /// Steps of sampling unless others are asked for.
    pub sampling_steps: usize,
}

impl LdmSection {
    /// The network's sizes for latents of so many channels, rows and columns.
    pub(crate) fn sizes(
        &self,
        channels: usize,
        (rows, cols): (usize, usize),
        classes: usize,
    ) -> UnetConfig {
        UnetConfig {
            channels,
            rows,
            cols,
            classes,
            base: self.base,
            mult: self.mult.clone(),
            blocks: self.blocks,
            attention: self.attention.clone(),
            heads: self.heads,
            context: self.context,
            groups: self.groups,
        }
    }
}

impl ModelSection {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Gpt(_) => Kind::Gpt,
            Self::Vit(_) => Kind::Vit,
            Self::Dit(_) => Kind::Dit,
            Self::Sit(_) => Kind::Sit,
            Self::Ldm(_) => Kind::Ldm,
        }
    }

    /// Whether it takes the codebook's entries apart from a tokenizer's other uses, and wants their scale.
    pub(super) fn looks_up(&self) -> bool {
        match self {
            Self::Gpt(_) => false,
            Self::Vit(vit) => vit.input == VitInput::Codebook,
            Self::Dit(_) | Self::Sit(_) | Self::Ldm(_) => true,
        }
    }

    /// Files that it names.
    pub(super) fn weights_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Vit(vit) => vit.weights.as_mut(),
            _ => None,
        }
    }

    /// The same without the files it names: they are this machine's.
    pub(super) fn without_files(mut self) -> Self {
        if let Self::Vit(vit) = &mut self {
            vit.weights = None;
        }
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Gpt(gpt) => {
                check_transformer(gpt.layers, gpt.heads, gpt.width)?;
                check_share("model.smoothing", gpt.smoothing)?;
                check_guidance(gpt.class_dropout, gpt.guidance)
            }
            Self::Vit(vit) => {
                check_transformer(vit.layers, vit.heads, vit.width)?;
                check_counts(&[
                    ("model.patch", vit.patch, 1 << 10),
                    ("model.channels", vit.channels, 1 << 12),
                ])?;
                check_share("model.smoothing", vit.smoothing)?;
                check_share("model.layer_decay", vit.layer_decay)?;
                for (key, value) in [("model.mixup", vit.mixup), ("model.cutmix", vit.cutmix)] {
                    if !(0.0..=100.0).contains(&value) {
                        return bad(key, format!("{value}, expected 0 to 100"));
                    }
                }
                Ok(())
            }
            Self::Dit(dit) | Self::Sit(dit) => {
                check_transformer(dit.layers, dit.heads, dit.width)?;
                if !dit.width.is_multiple_of(4) {
                    let why = format!("{}, expected a multiple of 4", dit.width);
                    return bad("model.width", why);
                }
                check_counts(&[
                    ("model.patch", dit.patch, 1 << 10),
                    ("model.sampling_steps", dit.sampling_steps, 1000),
                ])?;
                check_guidance(dit.class_dropout, dit.guidance)
            }
            Self::Ldm(ldm) => {
                check_counts(&[("model.sampling_steps", ldm.sampling_steps, 1000)])?;
                // What does not depend on the tokens.
                let least = 1 << ldm.mult.len().clamp(1, 9).saturating_sub(1);
                ldm.sizes(1, (least, least), 0).check()?;
                check_guidance(ldm.class_dropout, ldm.guidance)
            }
        }
    }
}

fn check_transformer(layers: usize, heads: usize, width: usize) -> Result<()> {
    check_counts(&[
        ("model.layers", layers, 1 << 10),
        ("model.heads", heads, 1 << 10),
        ("model.width", width, 1 << 14),
    ])?;
    if !width.is_multiple_of(heads) {
        return bad(
            "model.heads",
            format!("{heads}, expected a divisor of model.width {width}"),
        );
    }
    // Twelve squares of the width a block: more than this no machine holds four copies of.
    let parameters = 12 * layers as u64 * (width as u64).pow(2);
    if parameters > 1 << 34 {
        let why =
            format!("{width} in {layers} layers: {parameters} parameters, expected at most 2^34");
        return bad("model.width", why);
    }
    Ok(())
}

fn check_share(key: &str, share: f64) -> Result<()> {
    if !(0.0..=1.0).contains(&share) {
        return bad(key, format!("{share}, expected 0 to 1"));
    }
    Ok(())
}

fn check_guidance(class_dropout: f64, guidance: f64) -> Result<()> {
    check_share("model.class_dropout", class_dropout)?;
    if !(guidance.is_finite() && guidance >= 0.0) {
        let why = format!("{guidance}, expected a number of at least 0");
        return bad("model.guidance", why);
    }
    Ok(())
}
