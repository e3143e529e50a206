//! Latents to pictures.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use vqlc_ops::Input;

use super::fast::{Buffers, Map, each_picture, takes};
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
    buffers: Buffers,
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
            buffers: Buffers::default(),
        })
    }

    /// Inference on the latent of one picture.
    fn infer(&self, z_q: Input<'_>) -> Result<Map> {
        let buffers = &self.buffers;
        let z = self.post_quant_conv.packed()?.map(z_q, buffers)?;
        let x = self.conv_in.packed()?.map(z.input(), buffers)?;
        buffers.give(z);
        let mut x = self.mid.infer(x, buffers)?;
        for (level, double) in &self.up {
            x = level.infer(x, buffers)?;
            if let Some(double) = double {
                x = double.infer(x, buffers)?;
            }
        }
        let scales = self.norm_out.scales(&x)?;
        let pixels = (self.conv_out.packed()?).map(x.input().normalised(&scales), buffers)?;
        buffers.give(x);
        Ok(pixels)
    }

    /// Everything before the last convolution: z_q to its input, maps of `ch` channels and h*f x w*f positions, as the network makes them.
    ///
    /// The adaptive weight of the adversarial loss (Esser et al. 2021, equation 7) needs the gradient at the last convolution's weight
    /// alone: detach these, and only [`Self::picture`] is differentiated.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn features(&self, z_q: &Tensor) -> Result<Tensor> {
        let z_q = self.post_quant_conv.maps().enter(z_q)?;
        let x = self.conv_in.forward(&self.post_quant_conv.forward(&z_q)?)?;
        let mut x = self.mid.forward(&x)?;
        for (level, double) in &self.up {
            x = level.forward(&x)?;
            if let Some(double) = double {
                x = double.forward(&x)?;
            }
        }
        self.norm_out.forward(&x)
    }

    /// The last convolution: [`Self::features`] to pictures, f32.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn picture(&self, features: &Tensor) -> Result<Tensor> {
        let pixels = self.conv_out.forward(features)?;
        self.conv_out.maps().leave(&pixels)
    }
}

impl Module for Decoder {
    fn forward(&self, z_q: &Tensor) -> Result<Tensor> {
        if self.conv_in.can_infer() && takes(z_q) {
            return each_picture(z_q, &self.buffers, |z_q| self.infer(z_q));
        }
        self.picture(&self.features(z_q)?)
    }
}
