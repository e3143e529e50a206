//! From a run to a model file.

use vqlc_model::{
    convert::{ImportOptions, assemble, round_to_half},
    file::{CODEBOOK, ModelFile},
};

use super::{TokenizerTrainer, start::is_network};
use crate::{Result, quantizer::Kind};

impl TokenizerTrainer {
    /// The model of the weights as they are ([`Self::settle`] first), the codebook projected once. `None` for the fc quantizer,
    /// whose search on the unit sphere no model file stands for.
    ///
    /// # Errors
    /// A weight that is too large for f16 where `checkpoint.export_half` asks for it.
    pub fn model(&self) -> Result<Option<ModelFile>> {
        if self.config.quantizer.kind == Kind::Fc {
            return Ok(None);
        }
        let mut tensors = self.params.values()?;
        tensors.retain(|name, _| is_network(name));
        let mut config = self.config.model.clone();
        let run = &self.config.run;
        let provenance = format!(
            "vqlc {} train tokenizer, step {} of {}, seed {}",
            env!("CARGO_PKG_VERSION"),
            self.step,
            run.steps,
            run.seed
        );
        let section = &self.config.quantizer;
        if section.kind == Kind::Lc && section.projector {
            tensors.extend(self.quantizer.published()?);
            let options = ImportOptions {
                config: Some(config),
                half: self.config.checkpoint.export_half,
                provenance,
            };
            return Ok(Some(assemble(tensors, &options)?.model));
        }
        config.code_dim = config.embed_dim;
        if self.config.checkpoint.export_half {
            round_to_half(&mut tensors)?;
        }
        // As it is: ema divides by how often an entry was met, and what never was lies far beyond f16.
        tensors.insert(CODEBOOK.into(), self.quantizer.table()?);
        Ok(Some(ModelFile::new(config, provenance, tensors, None)?))
    }

    /// Ends the run: averaged weights, where there are any, take the place of the last ones for good.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn settle(&mut self) -> Result<()> {
        match self.ema.take() {
            Some(ema) => self.params.set(ema.weights()),
            None => Ok(()),
        }
    }
}
