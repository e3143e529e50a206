//! Averaged weights.

use candle_core::Tensor;
use rayon::prelude::*;
use vqlc_model::params::Tensors;

use super::{
    STEP, bad_state,
    pass::{CHUNK, in_place},
    read_step, state_tensor, step_tensor,
};
use crate::{Error, Params, Result};

/// An exponential moving average of parameters, which samples and reconstructs better than their last values.
///
/// The decay of update `n` (from 0) is `min(decay, (1 + n) / (10 + n))`: a young average forgets its start sooner.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    step: u64,
    weights: Tensors,
}

impl Ema {
    /// An average that starts at the parameters' values now.
    ///
    /// # Errors
    /// [`Error::Config`] for a decay outside [0, 1).
    pub fn new(decay: f64, params: &Params) -> Result<Self> {
        if !(0.0..1.0).contains(&decay) {
            return Err(Error::Config(format!(
                "ema decay {decay} is not within [0, 1)"
            )));
        }
        Ok(Self {
            decay,
            step: 0,
            weights: params.values()?,
        })
    }

    /// Moves the average towards the parameters' values now.
    ///
    /// # Errors
    /// [`Error::Argument`] for parameters it does not know; shapes that differ.
    pub fn update(&mut self, params: &Params) -> Result<()> {
        let step = self.step as f64;
        let rest = 1.0 - self.decay.min((1.0 + step) / (10.0 + step));
        for (name, var) in params.iter() {
            let weight = self
                .weights
                .get_mut(name)
                .ok_or_else(|| bad_state(name, "an average", &"none"))?;
            if weight.device().is_cpu() {
                let rest = rest as f32;
                in_place(weight, var.as_tensor(), |weights, values| {
                    weights
                        .par_chunks_mut(CHUNK)
                        .zip(values.par_chunks(CHUNK))
                        .for_each(|(weights, values)| {
                            for (weight, value) in weights.iter_mut().zip(values) {
                                *weight += rest * (value - *weight);
                            }
                        });
                })?;
            } else {
                let value = var.as_tensor().detach();
                *weight = (&*weight + ((value - &*weight)? * rest)?)?;
            }
        }
        self.step += 1;
        Ok(())
    }

    /// Forgets the past of one parameter: its average is `value` now.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn restart(&mut self, name: &str, value: &Tensor) -> Result<()> {
        self.weights.insert(name.to_owned(), value.copy()?.detach());
        Ok(())
    }

    /// The averages by their parameters' names. They share memory with this object: [`Params::set`] and saving copy them.
    pub fn weights(&self) -> &Tensors {
        &self.weights
    }

    /// All that a later [`Self::load_state`] needs: `step`, and `weight.NAME` for each parameter, bit for bit. They share memory with
    /// this object: save them before the next update.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn state(&self) -> Result<Tensors> {
        let mut state = Tensors::from([(STEP.to_owned(), step_tensor(self.step)?)]);
        for (name, weight) in &self.weights {
            state.insert(format!("weight.{name}"), weight.clone());
        }
        Ok(state)
    }

    /// Goes on from a state that [`Self::state`] returned for the same parameters.
    ///
    /// # Errors
    /// [`Error::Argument`] for a state that does not belong to them; nothing is changed then.
    pub fn load_state(&mut self, state: &Tensors) -> Result<()> {
        let step = read_step(state)?;
        if state.len() != 1 + self.weights.len() {
            let expected = format!("{} tensors", 1 + self.weights.len());
            return Err(bad_state("all", &expected, &state.len()));
        }
        let mut weights = Tensors::new();
        for (name, weight) in &self.weights {
            let stored = state_tensor(state, &format!("weight.{name}"), weight.dims())?;
            let copy = stored.to_device(weight.device())?.copy()?;
            weights.insert(name.clone(), copy);
        }
        self.step = step;
        self.weights = weights;
        Ok(())
    }
}
