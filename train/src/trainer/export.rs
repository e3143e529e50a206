//! From a run to a model file.

use vqlc_model::{
    convert::{ImportOptions, assemble},
    file::{CODEBOOK, ModelFile},
};

use super::{TokenizerTrainer, start::is_network};
use crate::{Result, config::QuantizerKind};

impl TokenizerTrainer {
    /// The model as it would be used: averaged weights where there are any, the codebook projected once. `None` for the fc quantizer,
    /// whose search on the unit sphere no model file stands for.
    ///
    /// # Errors
    /// A weight that is too large for f16 where `checkpoint.export_half` asks for it.
    pub fn model(&mut self) -> Result<Option<ModelFile>> {
        if self.config.quantizer.kind == QuantizerKind::Fc {
            return Ok(None);
        }
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
                return Ok(Some(assemble(tensors, &options)?.model));
            }
            config.code_dim = config.embed_dim;
            tensors.insert(CODEBOOK.into(), run.quantizer.table()?);
            Ok(Some(ModelFile::new(config, provenance, tensors, None)?))
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
