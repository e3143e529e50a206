//! Pictures to latents.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use vqlc_ops::Input;

use super::fast::{Buffers, Map, each_picture, takes};
use super::layers::{Conv, Downsample, Level, Middle, Norm, conv1, conv3};
use crate::VqganConfig;

/// The encoder with quant_conv: `[b, 3, h, w]` in [-1, 1] to the latent z `[b, embed_dim, h/f, w/f]`, both f32.
/// `h` and `w` must be multiples of the factor f.
pub struct Encoder {
    conv_in: Conv,
    down: Vec<(Level, Option<Downsample>)>,
    mid: Middle,
    norm_out: Norm,
    conv_out: Conv,
    quant_conv: Conv,
    buffers: Buffers,
}

impl Encoder {
    /// Builds it from the tensors under `encoder.` and `quant_conv.` of `vb`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn new(cfg: &VqganConfig, vb: VarBuilder) -> Result<Self> {
        let root = vb.pp("encoder");
        let mut channels = cfg.ch;
        let mut down = Vec::with_capacity(cfg.ch_mult.len());
        for (i, mult) in cfg.ch_mult.iter().enumerate() {
            let vb = root.pp("down").pp(i);
            let level = Level::new(cfg, i, cfg.num_res_blocks, channels, cfg.ch * mult, &vb)?;
            channels = cfg.ch * mult;
            let last = i + 1 == cfg.ch_mult.len();
            let half = (!last)
                .then(|| Downsample::new(channels, vb.pp("downsample")))
                .transpose()?;
            down.push((level, half));
        }
        Ok(Self {
            conv_in: conv3(cfg.in_channels, cfg.ch, root.pp("conv_in"))?,
            down,
            mid: Middle::new(cfg, channels, root.pp("mid"))?,
            norm_out: Norm::new(cfg, channels, true, root.pp("norm_out"))?,
            conv_out: conv3(channels, cfg.z_channels, root.pp("conv_out"))?,
            quant_conv: conv1(cfg.z_channels, cfg.embed_dim, vb.pp("quant_conv"))?,
            buffers: Buffers::default(),
        })
    }

    /// Inference on one picture.
    fn infer(&self, pixels: Input<'_>) -> Result<Map> {
        let buffers = &self.buffers;
        let mut x = self.conv_in.packed()?.map(pixels, buffers)?;
        for (level, half) in &self.down {
            x = level.infer(x, buffers)?;
            if let Some(half) = half {
                x = half.infer(x, buffers)?;
            }
        }
        let x = self.mid.infer(x, buffers)?;
        let scales = self.norm_out.scales(&x)?;
        let h = (self.conv_out.packed()?).map(x.input().normalised(&scales), buffers)?;
        let z = self.quant_conv.packed()?.map(h.input(), buffers)?;
        buffers.give(x);
        buffers.give(h);
        Ok(z)
    }
}

impl Module for Encoder {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.conv_in.can_infer() && takes(x) {
            return each_picture(x, &self.buffers, |pixels| self.infer(pixels));
        }
        let mut x = self.conv_in.forward(&self.conv_in.maps().enter(x)?)?;
        for (level, half) in &self.down {
            x = level.forward(&x)?;
            if let Some(half) = half {
                x = half.forward(&x)?;
            }
        }
        let x = self.norm_out.forward(&self.mid.forward(&x)?)?;
        let z = self.quant_conv.forward(&self.conv_out.forward(&x)?)?;
        self.quant_conv.maps().leave(&z)
    }
}
