//! From autoencoder to tokenizer: the codebook is laid where the latents are.

use candle_core::{Module as _, Tensor};
use vqlc_ops::tensor::upload;

use super::{
    TokenizerTrainer,
    build::{loader_options, order},
    generator::{scalar, variance},
};
use crate::{Result, data::Loader, quantizer::Kind, run::Progress};

impl TokenizerTrainer {
    /// Fits the quantizer to the latents of the network as it is. A function of the weights, the pictures and the seed alone, so it is
    /// done again where a run goes on from just before.
    pub(super) fn start_quantizing(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let section = &self.config.quantizer;
        match section.kind {
            Kind::Lc if self.config.warm_start.align && section.projector => {
                let latents = self.latents(self.config.warm_start.latents)?;
                self.quantizer.align(&latents)?;
                let found = self.quantizer.forward(&latents, false)?;
                let commit = scalar(&found.commit)?;
                let error = commit / variance(&latents)?;
                progress.note(&format!(
                    "codebook laid over {} latents: quantization error {:.1} % of their variance",
                    found.ids.dim(0)?,
                    100.0 * error
                ));
            }
            _ => {}
        }
        // The average must not remember the projector it had.
        if let Some(ema) = &mut self.ema {
            for (name, var) in self.params.iter().filter(|(name, _)| !is_network(name)) {
                ema.restart(name, var.as_tensor())?;
            }
        }
        Ok(())
    }

    /// At least `count` latents of seeded crops, `[b, dim, h, w]`, without a graph.
    fn latents(&self, count: usize) -> Result<Tensor> {
        let mut options = loader_options(&self.config);
        options.order = order(&self.config, self.config.run.seed ^ 0x6c61_7465_6e74);
        let mut rows = Vec::new();
        let mut have = 0;
        for batch in Loader::start(&self.source, options, 0)? {
            let batch = batch?;
            let shape = (batch.pictures.len(), 3, batch.size, batch.size);
            let x = upload(batch.pixels, shape, &self.device)?;
            let z = self.encoder.forward(&x)?.detach();
            let (pictures, _, height, width) = z.dims4()?;
            have += pictures * height * width;
            rows.push(z);
            if have >= count {
                break;
            }
        }
        Ok(Tensor::cat(&rows, 0)?)
    }
}

/// Whether a parameter belongs to encoder or decoder.
pub(super) fn is_network(name: &str) -> bool {
    ["encoder.", "decoder.", "quant_conv.", "post_quant_conv."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
