//! Gradients, Adam, averaged weights and the learning rate.

mod adam;
mod ema;
mod grads;
mod pass;
mod schedule;

pub use adam::{Adam, AdamConfig, Share};
pub use ema::Ema;
pub use grads::Grads;
pub use schedule::{Decay, Schedule};

use candle_core::{DType, Device, Tensor};
use vqlc_model::params::Tensors;

use crate::{Error, Result};

/// Where states keep how many steps were made: an i64 tensor `[]`.
const STEP: &str = "step";

fn step_tensor(step: u64) -> Result<Tensor> {
    let step = i64::try_from(step).map_err(|_| bad_state(STEP, "a count of steps", &step))?;
    Ok(Tensor::new(step, &Device::Cpu)?)
}

fn read_step(state: &Tensors) -> Result<u64> {
    let stored = state
        .get(STEP)
        .ok_or_else(|| bad_state(STEP, "a tensor", &"none"))?;
    if stored.dtype() != DType::I64 || stored.rank() != 0 {
        let found = format!("{:?} {:?}", stored.dtype(), stored.dims());
        return Err(bad_state(STEP, "an i64 scalar", &found));
    }
    let step = stored.to_scalar::<i64>()?;
    u64::try_from(step).map_err(|_| bad_state(STEP, "a count of steps", &step))
}

fn bad_state(name: &str, expected: &str, found: &dyn std::fmt::Display) -> Error {
    Error::Argument {
        what: "saved state",
        expected: format!("{name}: {expected}"),
        found: found.to_string(),
    }
}

/// A tensor of a saved state, f32, of the shape of the parameter it belongs to.
fn state_tensor<'a>(state: &'a Tensors, name: &str, shape: &[usize]) -> Result<&'a Tensor> {
    let stored = state
        .get(name)
        .ok_or_else(|| bad_state(name, "a tensor", &"none"))?;
    if stored.dims() != shape || stored.dtype() != DType::F32 {
        let found = format!("{:?} {:?}", stored.dtype(), stored.dims());
        return Err(bad_state(name, &format!("F32 {shape:?}"), &found));
    }
    Ok(stored)
}
