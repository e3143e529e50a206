//! Stopping and going on.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use vqlc_model::params::Tensors;

use super::{Facts, LearnTrainer, feed::Position};
use crate::{
    Error, Result,
    checkpoint::{Found, add_part, part},
    run::Progress,
};

const PARAMS: &str = "params.";
const ADAM: &str = "adam.";
const EMA: &str = "ema.";
/// JSON of [`State`], u8.
const STATE: &str = "state";

/// What a checkpoint knows beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The tokens.
    pub(super) facts: Facts,
    /// See [`Setting::scale`](super::Setting).
    pub(super) scale: Option<Vec<f32>>,
    /// Where the run stands in its data.
    pub(super) position: Position,
}

impl State {
    /// That of a checkpoint in `folder`.
    pub(super) fn of(folder: &Path, tensors: &Tensors) -> Result<Self> {
        let malformed = |why: String| Error::malformed(folder, why);
        let json = tensors.get(STATE);
        let json = json.ok_or_else(|| malformed(format!("a checkpoint without its {STATE}")))?;
        let state = serde_json::from_slice(&json.to_vec1::<u8>()?);
        state.map_err(|e| malformed(format!("a checkpoint's {STATE}: {e}")))
    }
}

impl LearnTrainer {
    /// Writes a checkpoint of the state after the last step.
    ///
    /// # Errors
    /// [`Error::Diverged`] for weights that are not finite: the one before is worth more.
    pub(super) fn write_checkpoint(&mut self, progress: &mut dyn Progress) -> Result<()> {
        if !self.params.finite()? {
            return Err(Error::diverged(self.step));
        }
        let mut all = Tensors::new();
        add_part(&mut all, PARAMS, self.params.values()?);
        add_part(&mut all, ADAM, self.adam.state(&self.params)?);
        if let Some(ema) = &self.ema {
            add_part(&mut all, EMA, ema.state()?);
        }
        let state = State {
            facts: self.setting.facts.clone(),
            scale: self.setting.scale.clone(),
            position: self.feed.position(),
        };
        let json = serde_json::to_vec(&state);
        let json = json.map_err(|e| Error::Config(format!("the run's {STATE}: {e}")))?;
        all.insert(STATE.into(), Tensor::new(json, &Device::Cpu)?);
        let path = self.store.save(self.step, &all)?;
        progress.checkpoint(self.step, &path);
        Ok(())
    }

    /// Takes up a checkpoint, the newest that could be read.
    ///
    /// # Errors
    /// One that belongs to another configuration.
    pub(super) fn load(&mut self, found: &Found, progress: &mut dyn Progress) -> Result<()> {
        for reason in &found.passed_over {
            progress.note(&format!("checkpoint passed over: {reason}"));
        }
        let all = &found.tensors;
        self.params.set(&part(all, PARAMS))?;
        self.adam.load_state(&self.params, &part(all, ADAM))?;
        if let Some(ema) = &mut self.ema {
            ema.load_state(&part(all, EMA))?;
        }
        self.step = found.step;
        progress.note(&format!("going on from step {}", found.step));
        Ok(())
    }
}
