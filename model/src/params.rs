//! Where a network's tensors come from: a strict set of given ones, or seeded random ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use vqlc_ops::tensor::Maps;

use crate::{Error, Result, rng::Rng};

/// Named tensors, in byte order of their names.
pub type Tensors = BTreeMap<String, Tensor>;

/// What the network whose parameters come from `vb` makes its maps of: products in the builder's dtype, the order the
/// [fastest](Maps::fastest) on its device.
///
/// # Errors
/// As [`Maps::fastest`].
pub fn maps(vb: &VarBuilder) -> candle_core::Result<Maps> {
    Maps::fastest(vb.dtype(), vb.device())
}

/// Hands given tensors to a network under construction; a missing or mis-shaped one is an error, and so is one left over.
pub struct StrictParams {
    tensors: Arc<Tensors>,
    used: Arc<Mutex<BTreeSet<String>>>,
    fault: Arc<Mutex<Option<Error>>>,
}

impl StrictParams {
    /// Builds a network from `tensors` on `device`: `build` asks for each by name through the builder it gets.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorShape`], [`Error::ExtraTensors`].
    pub fn build<T>(
        tensors: Arc<Tensors>,
        device: &Device,
        build: impl FnOnce(VarBuilder) -> candle_core::Result<T>,
    ) -> Result<T> {
        Self::build_for(tensors, device, DType::F32, build)
    }

    /// As [`Self::build`], for layers that multiply in `compute` (their builder's dtype): F32 or BF16. Parameters stay f32.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn build_for<T>(
        tensors: Arc<Tensors>,
        device: &Device,
        compute: DType,
        build: impl FnOnce(VarBuilder) -> candle_core::Result<T>,
    ) -> Result<T> {
        let params = Self {
            tensors: tensors.clone(),
            used: Arc::default(),
            fault: Arc::default(),
        };
        let (used, fault) = (params.used.clone(), params.fault.clone());
        let built = build(VarBuilder::from_backend(
            Box::new(params),
            compute,
            device.clone(),
        ));
        if let Some(fault) = fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(fault);
        }
        let network = built?;
        let used = used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut extra = tensors.keys().filter(|name| !used.contains(*name));
        match extra.next() {
            Some(first) => Err(Error::ExtraTensors {
                first: first.clone(),
                count: 1 + extra.count(),
            }),
            None => Ok(network),
        }
    }

    /// Keeps the typed error: candle's own carries text only.
    fn refuse(&self, error: Error) -> candle_core::Error {
        let text = error.to_string();
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        candle_core::Error::Msg(text)
    }
}

impl SimpleBackend for StrictParams {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        _: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(self.refuse(Error::MissingTensor {
                name: name.into(),
                expected: shape.into_dims(),
            }));
        };
        if tensor.shape() != &shape {
            let found = tensor.dims().to_vec();
            return Err(self.refuse(Error::TensorShape {
                name: name.into(),
                expected: shape.into_dims(),
                found,
            }));
        }
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.into());
        tensor.to_device(device)?.to_dtype(DType::F32)
    }

    fn get_unchecked(&self, name: &str, _: DType, device: &Device) -> candle_core::Result<Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => tensor.to_device(device)?.to_dtype(DType::F32),
            None => Err(self.refuse(Error::MissingTensor {
                name: name.into(),
                expected: vec![],
            })),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

/// Seeded random weights. Each tensor's values depend on the seed and its name alone, never on the order of construction.
pub struct RandomParams {
    seed: u64,
    made: Arc<Mutex<Tensors>>,
}

impl RandomParams {
    /// Builds a network with random weights and returns it with them (on the CPU, f32).
    pub fn build<T>(
        seed: u64,
        device: &Device,
        build: impl FnOnce(VarBuilder) -> candle_core::Result<T>,
    ) -> Result<(T, Tensors)> {
        let made = Arc::new(Mutex::new(Tensors::new()));
        let params = Self {
            seed,
            made: made.clone(),
        };
        let network = build(VarBuilder::from_backend(
            Box::new(params),
            DType::F32,
            device.clone(),
        ))?;
        let tensors = std::mem::take(&mut *made.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((network, tensors))
    }
}

impl SimpleBackend for RandomParams {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let hash = name.bytes().fold(self.seed, |h, byte| {
            Rng::new(h ^ u64::from(byte)).next_u64()
        });
        let mut rng = Rng::new(hash);
        let count = shape.elem_count();
        let values: Vec<f32> = match init {
            Init::Const(value) => vec![value as f32; count],
            Init::Randn { mean, stdev } => (0..count)
                .map(|_| (mean + stdev * rng.normal()) as f32)
                .collect(),
            Init::Uniform { lo, up } => (0..count)
                .map(|_| (lo + (up - lo) * rng.uniform()) as f32)
                .collect(),
            Init::Kaiming { .. } => {
                candle_core::bail!("tensor {name}: layers here state their own range")
            }
        };
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.into(), tensor.clone());
        tensor.to_device(device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("tensor {name} has no shape to be drawn in")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
