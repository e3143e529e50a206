//! Trainable parameters by name.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use vqlc_model::params::{RandomParams, StrictParams, Tensors};

use crate::Result;

/// The trainable parameters of a network, f32, in byte order of their names: every walk over them has one order.
#[derive(Clone, Debug, Default)]
pub struct Params(BTreeMap<String, Var>);

impl Params {
    /// Builds a network whose parameters are drawn from `seed`, each by its name alone. `compute` is the dtype its layers multiply in
    /// (F32, or BF16 with f32 parameters).
    ///
    /// # Errors
    /// What `build` returns.
    pub fn random<T>(
        seed: u64,
        device: &Device,
        compute: DType,
        build: impl Fn(VarBuilder) -> candle_core::Result<T>,
    ) -> Result<(T, Self)> {
        let (_, drawn) = RandomParams::build(seed, &Device::Cpu, &build)?;
        Self::from_tensors(&drawn, device, compute, build)
    }

    /// Builds a network from given parameters; a missing, mis-shaped or left-over one is an error.
    ///
    /// # Errors
    /// As [`StrictParams::build`].
    pub fn from_tensors<T>(
        tensors: &Tensors,
        device: &Device,
        compute: DType,
        build: impl Fn(VarBuilder) -> candle_core::Result<T>,
    ) -> Result<(T, Self)> {
        let mut vars = BTreeMap::new();
        for (name, tensor) in tensors {
            let tensor = tensor.to_device(device)?.to_dtype(DType::F32)?;
            vars.insert(name.clone(), Var::from_tensor(&tensor)?);
        }
        let handed = vars
            .iter()
            .map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        let network = StrictParams::build_for(Arc::new(handed.collect()), device, compute, build)?;
        Ok((network, Self(vars)))
    }

    /// All of them in byte order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.0.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.0.get(name)
    }

    /// Joins two sets under prefixes of their own.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Their values now, copied: training on does not change them.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn values(&self) -> Result<Tensors> {
        self.0
            .iter()
            .map(|(name, var)| Ok((name.clone(), var.as_tensor().copy()?.detach())))
            .collect()
    }

    /// Whether every one of their numbers is finite.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn finite(&self) -> Result<bool> {
        for (_, var) in self.iter() {
            let sum = var.as_tensor().detach().sum_all()?.to_scalar::<f32>()?;
            if !sum.is_finite() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sets every parameter from `tensors`.
    ///
    /// # Errors
    /// [`vqlc_model::Error::MissingTensor`]; a shape that differs.
    pub fn set(&self, tensors: &Tensors) -> Result<()> {
        for (name, var) in &self.0 {
            let missing = || vqlc_model::Error::MissingTensor {
                name: name.clone(),
                expected: var.dims().to_vec(),
            };
            let tensor: &Tensor = tensors.get(name).ok_or_else(missing)?;
            var.set(&tensor.to_device(var.device())?.to_dtype(DType::F32)?)?;
        }
        Ok(())
    }
}
