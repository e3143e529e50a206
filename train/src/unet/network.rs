//! The network.

use candle_core::{Error, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use vqlc_model::params::maps;
use vqlc_ops::tensor::{Maps, upsample2};

use super::{
    UnetConfig,
    layers::{Conv, GroupNorm},
    residual::ResidualBlock,
    time::TimeEmbedding,
    transformer::Transformer,
};
use crate::diffusion::Denoiser;

/// A UNet: down through the levels, a middle, and up again, where each residual block is given what the way down had there.
///
/// Latents are `[b, channels, rows, cols]` as configured; other sizes, and classes past the one for none, are errors. Whether it says the
/// noise or the velocity is up to the training.
#[derive(Debug)]
pub struct Unet {
    config: UnetConfig,
    time: TimeEmbedding,
    classes: Tensor,
    down: Vec<Sequence>,
    middle: Sequence,
    up: Vec<Sequence>,
    norm: GroupNorm,
    out: Conv,
    maps: Maps,
}

impl Unet {
    /// Builds it from parameters with the names of CompVis's latent diffusion; `cond_stage.embedding.weight`
    /// `[classes + 1, context]` has null's embedding last.
    ///
    /// New convolutions are drawn as PyTorch draws them, but for those that published networks start at 0: the last one, and the last of
    /// each residual block and transformer. Other layers are drawn as [`LinearInit::GPT`](crate::nn::LinearInit::GPT) and embeddings
    /// from the standard normal distribution.
    ///
    /// # Errors
    /// What [`UnetConfig::check`] and the builder say.
    pub fn new(config: UnetConfig, vb: &VarBuilder) -> Result<Self> {
        config.check().map_err(Error::wrap)?;
        let normal = Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        };
        let table = (config.classes + 1, config.context);
        let (down, mut kept) = way_down(&config, &vb.pp("input_blocks"))?;
        let width = kept.last().copied().unwrap_or(config.base);
        let last = config.widths().next().unwrap_or(config.base);
        let middle = vb.pp("middle_block");
        let block = |i: usize| ResidualBlock::new(&config, width, width, &middle.pp(i));
        Ok(Self {
            time: TimeEmbedding::new(config.base, &vb.pp("time_embed"))?,
            classes: vb.get_with_hints(table, "cond_stage.embedding.weight", normal)?,
            down,
            middle: Sequence(vec![
                Part::Residual(block(0)?),
                Part::Transformer(Box::new(Transformer::new(&config, width, &middle.pp(1))?)),
                Part::Residual(block(2)?),
            ]),
            up: way_up(&config, width, &mut kept, &vb.pp("output_blocks"))?,
            norm: GroupNorm::swish(config.groups, last, &vb.pp("out.0"))?,
            out: Conv::zero(last, config.channels, 3, &vb.pp("out.2"))?,
            maps: maps(vb)?,
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }
}

impl Denoiser for Unet {
    fn predict(&self, x: &Tensor, t: &Tensor, classes: &Tensor) -> Result<Tensor> {
        let UnetConfig {
            channels,
            rows,
            cols,
            ..
        } = self.config;
        if x.dims4()? != (x.dim(0)?, channels, rows, cols) {
            candle_core::bail!(
                "latents {:?}, this network takes [b, {channels}, {rows}, {cols}]",
                x.dims()
            );
        }
        let given = Given {
            time: self.time.forward(t)?,
            context: self.classes.index_select(classes, 0)?.unsqueeze(1)?,
        };
        let mut x = self.maps.enter(x)?;
        let mut kept = Vec::with_capacity(self.down.len());
        for sequence in &self.down {
            x = sequence.forward(&x, &given)?;
            kept.push(x.clone());
        }
        x = self.middle.forward(&x, &given)?;
        for (sequence, beside) in self.up.iter().zip(kept.iter().rev()) {
            let both = Tensor::cat(&[&x, beside], self.maps.order.channels())?;
            x = sequence.forward(&both, &given)?;
        }
        self.maps.leave(&self.out.forward(&self.norm.forward(&x)?)?)
    }

    fn null(&self) -> u32 {
        self.config.classes as u32
    }
}

/// The way down, and the channels of what each part of it gives.
fn way_down(config: &UnetConfig, vb: &VarBuilder) -> Result<(Vec<Sequence>, Vec<usize>)> {
    let first = Conv::same(config.channels, config.base, 3, &vb.pp("0.0"))?;
    let mut parts = vec![Sequence(vec![Part::Conv(first)])];
    let (mut kept, mut width) = (vec![config.base], config.base);
    for (level, outputs) in config.widths().enumerate() {
        for _ in 0..config.blocks {
            let at = vb.pp(parts.len());
            parts.push(Sequence::new(config, level, width, outputs, &at)?);
            width = outputs;
            kept.push(width);
        }
        if level + 1 < config.mult.len() {
            let half = Conv::halving(width, &vb.pp(parts.len()).pp("0.op"))?;
            parts.push(Sequence(vec![Part::Conv(half)]));
            kept.push(width);
        }
    }
    Ok((parts, kept))
}

/// The way up from `width` channels, which takes off `kept` what stands beside each part.
fn way_up(
    config: &UnetConfig,
    mut width: usize,
    kept: &mut Vec<usize>,
    vb: &VarBuilder,
) -> Result<Vec<Sequence>> {
    let mut parts = Vec::with_capacity(kept.len());
    for (level, outputs) in config.widths().enumerate().rev() {
        for block in 0..=config.blocks {
            let at = vb.pp(parts.len());
            let inputs = width + kept.pop().unwrap_or(0);
            let mut sequence = Sequence::new(config, level, inputs, outputs, &at)?;
            width = outputs;
            if level > 0 && block == config.blocks {
                let conv = Conv::same(width, width, 3, &at.pp(sequence.0.len()).pp("conv"))?;
                sequence.0.push(Part::Double(conv));
            }
            parts.push(sequence);
        }
    }
    Ok(parts)
}

/// What all parts are told.
struct Given {
    /// `[b, 4 base]`
    time: Tensor,
    /// `[b, 1, context]`
    context: Tensor,
}

#[derive(Debug)]
enum Part {
    Conv(Conv),
    Residual(ResidualBlock),
    Transformer(Box<Transformer>),
    /// Twice the size by repeating, then a convolution.
    Double(Conv),
}

/// Parts behind one another, whose names are their places.
#[derive(Debug)]
struct Sequence(Vec<Part>);

impl Sequence {
    /// A residual block, and a transformer where the level has them.
    fn new(
        config: &UnetConfig,
        level: usize,
        inputs: usize,
        outputs: usize,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let block = ResidualBlock::new(config, inputs, outputs, &vb.pp(0))?;
        let mut parts = vec![Part::Residual(block)];
        if config.attention[level] {
            let transformer = Transformer::new(config, outputs, &vb.pp(1))?;
            parts.push(Part::Transformer(Box::new(transformer)));
        }
        Ok(Self(parts))
    }

    fn forward(&self, x: &Tensor, given: &Given) -> Result<Tensor> {
        self.0.iter().try_fold(x.clone(), |x, part| match part {
            Part::Conv(conv) => conv.forward(&x),
            Part::Residual(block) => block.forward(&x, &given.time),
            Part::Transformer(transformer) => transformer.forward(&x, &given.context),
            Part::Double(conv) => conv.forward(&upsample2(&x, conv.order())?),
        })
    }
}
