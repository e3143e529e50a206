//! Adam and AdamW.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vqlc_model::params::Tensors;

use super::{
    Grads, STEP, bad_state,
    pass::{CHUNK, in_place},
    read_step, state_tensor, step_tensor,
};
use crate::{Error, Params, Result, config::OptimizerConfig};

/// What an [`Adam`] is made with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Decay of the mean of gradients and of the mean of their squares; each in [0, 1).
    pub betas: [f64; 2],
    /// Added to the root of the mean square; above 0.
    pub eps: f64,
    /// Share of the learning rate by which every parameter shrinks each step, apart from the gradient; 0 is plain Adam.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    /// What the published training of VQGAN-LC uses.
    fn default() -> Self {
        Self {
            betas: [0.5, 0.9],
            eps: 1e-7,
            weight_decay: 0.0,
        }
    }
}

impl AdamConfig {
    /// What a configuration's `[optimizer]` says.
    pub fn of(section: &OptimizerConfig) -> Self {
        Self {
            betas: section.betas,
            eps: section.eps,
            weight_decay: section.weight_decay,
        }
    }
}

/// A parameter's part in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Its learning rate as a share of the step's.
    pub rate: f64,
    /// Whether weight decay applies to it.
    pub decays: bool,
}

impl Share {
    /// The whole.
    pub const WHOLE: Self = Self {
        rate: 1.0,
        decays: true,
    };
}

/// Adam (Kingma and Ba 2015, algorithm 1), with weight decay as AdamW has it (Loshchilov and Hutter 2019, algorithm 2).
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    step: u64,
    moments: BTreeMap<String, Moments>,
}

/// Running means of a parameter's gradient and of its square.
#[derive(Debug)]
enum Moments {
    /// Of a parameter on the CPU, row-major.
    Host { m: Vec<f32>, v: Vec<f32> },
    /// Of one on another device.
    Device { m: Tensor, v: Tensor },
}

/// The numbers that are the same for every parameter of a step.
#[derive(Clone, Copy)]
struct Step {
    betas: [f64; 2],
    /// Learning rate over the bias correction of the mean.
    rate: f64,
    /// One over the bias correction of the mean square.
    unbias: f64,
    eps: f64,
    /// What is left of a parameter after weight decay.
    keep: f64,
}

impl Adam {
    /// An optimiser that has not made a step.
    ///
    /// # Errors
    /// [`Error::Config`] for values out of range.
    pub fn new(config: AdamConfig) -> Result<Self> {
        let AdamConfig {
            betas,
            eps,
            weight_decay,
        } = config;
        if betas.iter().any(|beta| !(0.0..1.0).contains(beta)) {
            return Err(Error::Config(format!(
                "betas {betas:?} are not within [0, 1)"
            )));
        }
        if !(eps > 0.0 && eps.is_finite() && weight_decay >= 0.0 && weight_decay.is_finite()) {
            return Err(Error::Config(format!(
                "eps {eps} must be above 0 and weight_decay {weight_decay} not below 0"
            )));
        }
        Ok(Self {
            config,
            step: 0,
            moments: BTreeMap::new(),
        })
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Changes every parameter that has a gradient; one without stays as it is, its moments too.
    ///
    /// # Errors
    /// [`Error::Argument`] for a gradient of no parameter or of another shape. Nothing is changed then.
    pub fn step(&mut self, params: &Params, grads: &Grads, lr: f64) -> Result<()> {
        self.step_by(params, grads, lr, |_, _| Share::WHOLE)
    }

    /// As [`Self::step`], where each parameter, by name and rank, has a share of its own.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn step_by(
        &mut self,
        params: &Params,
        grads: &Grads,
        lr: f64,
        share: impl Fn(&str, usize) -> Share,
    ) -> Result<()> {
        for (name, grad) in grads.iter() {
            let found = params.get(name).map(|var| var.dims().to_vec());
            if found.as_deref() != Some(grad.dims()) {
                return Err(Error::Argument {
                    what: "gradient",
                    expected: format!("that of {name}, {found:?}"),
                    found: format!("{:?}", grad.dims()),
                });
            }
        }
        self.step += 1;
        let [beta1, beta2] = self.config.betas;
        let correction = |beta: f64| 1.0 - beta.powf(self.step as f64);
        let step = Step {
            betas: self.config.betas,
            rate: lr / correction(beta1),
            unbias: 1.0 / correction(beta2),
            eps: self.config.eps,
            keep: 1.0,
        };
        for (name, var) in params.iter() {
            let Some(grad) = grads.get(name) else {
                continue;
            };
            if !self.moments.contains_key(name) {
                self.moments.insert(name.to_owned(), Moments::zeros(var)?);
            }
            let share = share(name, var.rank());
            let decay = if share.decays {
                share.rate * lr * self.config.weight_decay
            } else {
                0.0
            };
            let step = Step {
                rate: share.rate * step.rate,
                keep: 1.0 - decay,
                ..step
            };
            if let Some(moments) = self.moments.get_mut(name) {
                moments.step(var, grad, step)?;
            }
        }
        Ok(())
    }

    /// All that a later [`Self::load_state`] needs: `step`, and `m.NAME` and `v.NAME` for each parameter, on the CPU, bit for bit.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn state(&self, params: &Params) -> Result<Tensors> {
        let mut state = Tensors::from([(STEP.to_owned(), step_tensor(self.step)?)]);
        for (name, moments) in &self.moments {
            let shape = params
                .get(name)
                .ok_or_else(|| bad_state(name, "a parameter", &"none"))?
                .shape();
            let (m, v) = match moments {
                Moments::Host { m, v } => (
                    Tensor::from_slice(m, shape, &Device::Cpu)?,
                    Tensor::from_slice(v, shape, &Device::Cpu)?,
                ),
                Moments::Device { m, v } => {
                    (m.to_device(&Device::Cpu)?, v.to_device(&Device::Cpu)?)
                }
            };
            state.insert(format!("m.{name}"), m);
            state.insert(format!("v.{name}"), v);
        }
        Ok(state)
    }

    /// Goes on from a state that [`Self::state`] returned for the same parameters.
    ///
    /// # Errors
    /// [`Error::Argument`] for a state that does not belong to `params`; nothing is changed then.
    pub fn load_state(&mut self, params: &Params, state: &Tensors) -> Result<()> {
        let step = read_step(state)?;
        let mut moments = BTreeMap::new();
        for key in state.keys() {
            let Some(name) = key.strip_prefix("m.") else {
                if key != STEP && !key.starts_with("v.") {
                    return Err(bad_state(key, "nothing", &"a tensor"));
                }
                continue;
            };
            let var = params
                .get(name)
                .ok_or_else(|| bad_state(name, "a parameter", &"none"))?;
            let m = state_tensor(state, key, var.dims())?;
            let v = state_tensor(state, &format!("v.{name}"), var.dims())?;
            moments.insert(name.to_owned(), Moments::of(var.device(), m, v)?);
        }
        if state.len() != 1 + 2 * moments.len() {
            return Err(bad_state("v", "one for each m", &state.len()));
        }
        self.step = step;
        self.moments = moments;
        Ok(())
    }
}

impl Moments {
    fn zeros(var: &Var) -> Result<Self> {
        let zeros = var.as_tensor().zeros_like()?.detach();
        Self::of(var.device(), &zeros, &zeros)
    }

    fn of(device: &Device, m: &Tensor, v: &Tensor) -> Result<Self> {
        Ok(if device.is_cpu() {
            Self::Host {
                m: m.flatten_all()?.to_vec1()?,
                v: v.flatten_all()?.to_vec1()?,
            }
        } else {
            Self::Device {
                m: m.to_device(device)?,
                v: v.to_device(device)?,
            }
        })
    }

    fn step(&mut self, var: &Var, grad: &Tensor, step: Step) -> Result<()> {
        let Step {
            betas: [beta1, beta2],
            rate,
            unbias,
            eps,
            keep,
        } = step;
        match self {
            Self::Host { m, v } => {
                let (beta1, beta2) = (beta1 as f32, beta2 as f32);
                let (rest1, rest2) = (1.0 - beta1, 1.0 - beta2);
                let (rate, unbias, eps, keep) =
                    (rate as f32, unbias as f32, eps as f32, keep as f32);
                in_place(var.as_tensor(), grad, |values, grad| {
                    let chunks = values
                        .par_chunks_mut(CHUNK)
                        .zip(grad.par_chunks(CHUNK))
                        .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)));
                    chunks.for_each(|((values, grad), (m, v))| {
                        let numbers = values.iter_mut().zip(grad).zip(m.iter_mut().zip(v));
                        for ((value, &g), (m, v)) in numbers {
                            *m = beta1 * *m + rest1 * g;
                            *v = beta2 * *v + rest2 * g * g;
                            *value = keep * *value - rate * *m / ((*v * unbias).sqrt() + eps);
                        }
                    });
                })?;
            }
            Self::Device { m, v } => {
                *m = ((&*m * beta1)? + (grad * (1.0 - beta1))?)?.detach();
                *v = ((&*v * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?.detach();
                let scale = ((&*v * unbias)?.sqrt()? + eps)?;
                let value = (var.as_tensor().detach() * keep)?;
                var.set(&(value - (&*m * rate)?.div(&scale)?)?)?;
            }
        }
        Ok(())
    }
}
