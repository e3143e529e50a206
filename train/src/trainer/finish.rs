//! The end of a run: a model file, and what it is worth.

use std::path::PathBuf;

use serde::Serialize;
use vqlc_model::Tokenizer;

use super::{TokenizerTrainer, UsageReport};
use crate::{
    Result,
    measure::{Codec, Evaluation},
    run::Progress,
};

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Finished {
    /// The model file that was written; none for the fc quantizer.
    pub model: Option<PathBuf>,
    /// Steps made.
    pub steps: u64,
    /// How much of the codebook the training pictures use.
    pub usage: UsageReport,
    /// What it is worth on `data.eval`, where that names a folder.
    pub evaluation: Option<Evaluation>,
}

impl TokenizerTrainer {
    /// Ends a run whose steps are all made: averaged weights take the place of the last ones for good, `model.safetensors` is written in the
    /// run's folder, and the model is measured. `None` where it was asked to stop meanwhile: the run that goes on measures again.
    ///
    /// # Errors
    /// Files, pictures and tensor operations.
    pub fn finish(&mut self, progress: &mut dyn Progress) -> Result<Option<Finished>> {
        self.settle()?;
        let Some(model) = self.model()? else {
            progress.note("the fc quantizer searches on the unit sphere, which no model file holds: none is written");
            let usage = self.measure_usage(self, progress)?;
            return self.finished(None, usage, self, progress);
        };
        let path = self.out.join("model.safetensors");
        model.write(&path)?;
        progress.note(&format!("wrote {}", path.display()));
        let tokenizer = Tokenizer::new(&model, &self.device)?;
        let usage = self.measure_usage(&tokenizer, progress)?;
        self.finished(Some(path), usage, &tokenizer, progress)
    }

    fn finished(
        &self,
        model: Option<PathBuf>,
        usage: Option<UsageReport>,
        codec: &dyn Codec,
        progress: &mut dyn Progress,
    ) -> Result<Option<Finished>> {
        let Some(usage) = usage else {
            return Ok(None);
        };
        let evaluation = match self.config.data.eval {
            Some(_) => match self.evaluate(codec, progress)? {
                None => return Ok(None),
                some => some,
            },
            None => None,
        };
        Ok(Some(Finished {
            model,
            steps: self.step,
            usage,
            evaluation,
        }))
    }
}
