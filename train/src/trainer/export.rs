//! From a run to a model file.

use vqlc_model::{
    convert::{ImportOptions, assemble},
    file::{CODEBOOK, ModelFile},
};

use super::{TokenizerTrainer, start::is_network};
use crate::{Result, config::QuantizerKind};

impl TokenizerTrainer {
    /// The model as it would be used: averaged weights where there are any, the codebook projected once.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for the fc quantizer, whose ids a model file cannot stand for.
    pub fn model(&mut self) -> Result<ModelFile> {
        let half = self.config.checkpoint.export_half;
        self.with_averages(|run| {
            let mut tensors = run.params.values()?;
            tensors.retain(|name, _| is_network(name));
            let mut config = run.config.model.clone();
            let provenance = format!(
                "vqlc {} train tokenizer, step {} of {}, seed {}",
                env!("CARGO_PKG_VERSION"),
                run.step,
                run.config.run.steps,
                run.config.run.seed
            );
            let section = &run.config.quantizer;
            if section.kind == QuantizerKind::Lc && section.projector {
                tensors.extend(run.quantizer.published()?);
                let options = ImportOptions {
                    config: Some(config),
                    half,
                    provenance,
                };
                return Ok(assemble(tensors, &options)?.model);
            }
            config.code_dim = config.embed_dim;
            tensors.insert(CODEBOOK.into(), run.quantizer.table()?);
            Ok(ModelFile::new(config, provenance, tensors, None)?)
        })
    }

    /// Runs `work` with averaged weights in place of the last ones, where there are averages.
    pub(super) fn with_averages<T>(&mut self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let Some(ema) = &self.ema else {
            return work(self);
        };
        let last = self.params.values()?;
        self.params.set(ema.weights())?;
        let out = work(self);
        self.params.set(&last)?;
        out
    }
}
