//! Latents to pictures.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::layers::{Conv, Level, Middle, Norm, Upsample, conv1, conv3};
use crate::VqganConfig;

/// The decoder with post_quant_conv: z_q `[b, embed_dim, h, w]` to pictures `[b, 3, h*f, w*f]`, about [-1, 1], not clamped.
pub struct Decoder {
    post_quant_conv: Conv,
    conv_in: Conv,
    mid: Middle,
    /// From the smallest level to the full size.
    up: Vec<(Level, Option<Upsample>)>,
    norm_out: Norm,
    conv_out: Conv,
}

impl Decoder {
    /// Builds it from the tensors under `decoder.` and `post_quant_conv.` of `vb`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn new(cfg: &VqganConfig, vb: VarBuilder) -> Result<Self> {
        let root = vb.pp("decoder");
        let smallest = cfg.ch * cfg.ch_mult.last().copied().unwrap_or(1);
        let mut channels = smallest;
        let mut up = Vec::with_capacity(cfg.ch_mult.len());
        for (i, mult) in cfg.ch_mult.iter().enumerate().rev() {
            let vb = root.pp("up").pp(i);
            let level = Level::new(cfg, i, cfg.num_res_blocks + 1, channels, cfg.ch * mult, &vb)?;
            channels = cfg.ch * mult;
            let double = (i != 0)
                .then(|| Upsample::new(channels, vb.pp("upsample")))
                .transpose()?;
            up.push((level, double));
        }
        Ok(Self {
            post_quant_conv: conv1(cfg.embed_dim, cfg.z_channels, vb.pp("post_quant_conv"))?,
            conv_in: conv3(cfg.z_channels, smallest, root.pp("conv_in"))?,
            mid: Middle::new(cfg, smallest, root.pp("mid"))?,
            up,
            norm_out: Norm::new(cfg, channels, true, root.pp("norm_out"))?,
            conv_out: conv3(channels, cfg.out_ch, root.pp("conv_out"))?,
        })
    }
}

impl Module for Decoder {
    fn forward(&self, z_q: &Tensor) -> Result<Tensor> {
        let x = self.conv_in.forward(&self.post_quant_conv.forward(z_q)?)?;
        let mut x = self.mid.forward(&x)?;
        for (level, double) in &self.up {
            x = level.forward(&x)?;
            if let Some(double) = double {
                x = double.forward(&x)?;
            }
        }
        self.conv_out.forward(&self.norm_out.forward(&x)?)
    }
}
