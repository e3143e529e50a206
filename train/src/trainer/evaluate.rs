//! The run itself as a codec, and what it is worth on `data.eval`.

use candle_core::{Device, Module as _, Tensor};
use vqlc_ops::tensor::upload;

use super::TokenizerTrainer;
use crate::{
    Result,
    config::PerceptualKind,
    measure::{Codec, CodecPairs, Evaluation, JudgeFiles, Judges, evaluate},
    run::Progress,
};

/// The run itself: for the fc quantizer, which no model file holds.
impl Codec for TokenizerTrainer {
    fn codes(&self) -> usize {
        self.config.model.n_codes
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn describe(&self) -> String {
        format!("of the run in {}, step {}", self.out.display(), self.step)
    }

    fn ids(&self, pixels: &[f32], count: usize, side: usize) -> Result<Vec<u32>> {
        let z = self.latent(pixels, count, side)?;
        Ok(self.quantizer.forward(&z, false)?.ids.to_vec1()?)
    }

    fn reconstruct(
        &self,
        pixels: &[f32],
        count: usize,
        side: usize,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let z = self.latent(pixels, count, side)?;
        let quantized = self.quantizer.forward(&z, false)?;
        Ok((quantized.ids.to_vec1()?, self.pixels(&quantized.z_q)?))
    }
}

impl TokenizerTrainer {
    /// The latents of `pixels` `[count, 3, side, side]`, without a graph.
    pub(super) fn latent(&self, pixels: &[f32], count: usize, side: usize) -> Result<Tensor> {
        let x = upload(pixels, (count, 3, side, side), &self.device)?;
        Ok(self.encoder.forward(&x)?.detach())
    }

    /// What the decoder makes of latents.
    pub(super) fn pixels(&self, z: &Tensor) -> Result<Vec<f32>> {
        let made = self.decoder.forward(&z.detach())?;
        Ok(made.detach().flatten_all()?.to_vec1()?)
    }
}

impl TokenizerTrainer {
    /// Measures `codec` on `data.eval`; `None` where no folder is named, or where it was asked to stop.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn evaluate(
        &self,
        codec: &dyn Codec,
        progress: &dyn Progress,
    ) -> Result<Option<Evaluation>> {
        let Some(folder) = &self.config.data.eval else {
            return Ok(None);
        };
        let loss = &self.config.loss;
        let weights = match (&self.config.data.eval_weights, loss.perceptual_network) {
            (Some(path), _) => Some(path),
            (None, PerceptualKind::Efficientnet) => loss.perceptual_weights.first(),
            _ => None,
        };
        let data = &self.config.data;
        let files = JudgeFiles {
            efficientnet: weights.cloned(),
            ..JudgeFiles::default()
        };
        let judges = Judges::open(&files, codec.device())?;
        let mut pairs = CodecPairs::new(codec, folder, data.eval_size, data.workers)?;
        evaluate(&mut pairs, &judges, &mut |_, _| {
            Ok(!progress.stop_requested())
        })
    }
}
