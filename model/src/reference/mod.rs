//! Tensors of an independent implementation, to compare this one with (`vqlc selftest --reference`, the parity tests).
//!
//! A reference folder holds safetensors files (`param.*`, `in.*`, `out.*`, `grad.*` and a JSON `config`) and `tolerances.json`
//! (`{file: {key: {rel, abs} | {exact}}}`; a result passes when ||a - b|| <= rel ||b|| + abs).

mod vqgan;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use crate::{Error, Result, params::Tensors};

pub use vqgan::{compare_vqgan, vqgan_parameters};

/// How far a result may be from the stored one.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Tolerance {
    /// Relative to the norm of the stored tensor.
    #[serde(default)]
    rel: f64,
    /// In absolute terms, on the norm of the difference.
    #[serde(default)]
    abs: f64,
    /// Integers must match.
    #[serde(default)]
    exact: bool,
}

/// One comparison made.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Key of the stored tensor.
    pub key: String,
    /// ||a - b|| / ||b|| (without the division where b is 0), or the share of integers that differ.
    pub error: f64,
    /// What it may be.
    pub limit: f64,
}

impl Comparison {
    /// Whether it is within its limit (NaN is not).
    pub fn passed(&self) -> bool {
        self.error <= self.limit
    }
}

/// A file of a reference folder, in memory.
pub struct ReferenceFile {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    tolerances: BTreeMap<String, Tolerance>,
    config: serde_json::Map<String, serde_json::Value>,
}

/// The metadata's `config`: a case around the configuration.
#[derive(Deserialize)]
struct Case {
    config: serde_json::Map<String, serde_json::Value>,
}

impl ReferenceFile {
    /// Reads `name` and its tolerances from `folder`.
    ///
    /// # Errors
    /// Files that are not there or not what they should be.
    pub fn open(folder: &Path, name: &str) -> Result<Self> {
        let read = |path: &Path| std::fs::read(path).map_err(|e| Error::io(path, e));
        let path = folder.join(name);
        let bytes = read(&path)?;
        let malformed = |why: String| Error::Malformed(format!("{name}: {why}"));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
            .map_err(|e| malformed(e.to_string()))?;
        let config = match header.metadata().as_ref().and_then(|m| m.get("config")) {
            Some(text) => {
                serde_json::from_str::<Case>(text)
                    .map_err(|e| malformed(e.to_string()))?
                    .config
            }
            None => serde_json::Map::new(),
        };
        let text = read(&folder.join("tolerances.json"))?;
        let mut all: BTreeMap<String, BTreeMap<String, Tolerance>> = serde_json::from_slice(&text)
            .map_err(|e| Error::Malformed(format!("tolerances.json: {e}")))?;
        Ok(Self {
            tensors: candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?
                .into_iter()
                .collect(),
            tolerances: all.remove(name).unwrap_or_default(),
            config,
            path,
        })
    }

    /// The configuration in the metadata; empty where there is none.
    pub fn config(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.config
    }

    /// The `weights_seed` of the configuration, which the network's weights are drawn from.
    ///
    /// # Errors
    /// None there, or no whole number.
    pub fn weights_seed(&self) -> Result<u64> {
        let seed = self.config.get("weights_seed").and_then(|v| v.as_u64());
        seed.ok_or_else(|| {
            let path = self.path.display();
            Error::Malformed(format!("{path}: no weights_seed that is a whole number"))
        })
    }

    /// Keys that start with `prefix`, in byte order, without it.
    pub fn keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors
            .keys()
            .filter_map(move |key| key.strip_prefix(prefix))
    }

    fn stored(&self, key: &str) -> Result<&Tensor> {
        self.tensors
            .get(key)
            .ok_or_else(|| Error::Malformed(format!("{}: no tensor {key}", self.path.display())))
    }

    /// A tensor as f32.
    ///
    /// # Errors
    /// No such key.
    pub fn tensor(&self, key: &str, device: &Device) -> Result<Tensor> {
        Ok(self.stored(key)?.to_dtype(DType::F32)?.to_device(device)?)
    }

    /// A tensor's values as f64, row-major: of f64 tensors nothing is lost.
    ///
    /// # Errors
    /// No such key.
    pub fn doubles(&self, key: &str) -> Result<Vec<f64>> {
        Ok(self
            .stored(key)?
            .flatten_all()?
            .to_dtype(DType::F64)?
            .to_vec1()?)
    }

    /// A u8 tensor's values, row-major.
    ///
    /// # Errors
    /// No such key, or another dtype.
    pub fn bytes(&self, key: &str) -> Result<Vec<u8>> {
        Ok(self.stored(key)?.flatten_all()?.to_vec1()?)
    }

    /// Integers (ids, counts) of an i64 tensor, row-major.
    ///
    /// # Errors
    /// No such key; values that are negative or above 2^32 - 1.
    pub fn integers(&self, key: &str) -> Result<Vec<u32>> {
        self.stored(key)?
            .flatten_all()?
            .to_vec1::<i64>()?
            .into_iter()
            .map(|v| u32::try_from(v).map_err(|_| Error::Malformed(format!("{key} holds {v}"))))
            .collect()
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// No such key.
    pub fn shape(&self, key: &str) -> Result<&[usize]> {
        Ok(self.stored(key)?.dims())
    }

    /// The tensors whose keys start with `prefix`, without it, as f32 on the CPU. Integer tensors (counters) are left out.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn parameters(&self, prefix: &str) -> Result<Tensors> {
        self.tensors
            .iter()
            .filter(|(_, tensor)| tensor.dtype().is_float())
            .filter_map(|(key, tensor)| Some((key.strip_prefix(prefix)?, tensor)))
            .map(|(name, tensor)| Ok((name.to_owned(), tensor.to_dtype(DType::F32)?)))
            .collect()
    }

    /// Compares `found` with the tensor stored as `key`: values in row-major order, whatever the shapes.
    ///
    /// # Errors
    /// No such key, no tolerance for it, or another number of values.
    pub fn compare(&self, key: &str, found: &Tensor) -> Result<Comparison> {
        let found = found.to_device(&Device::Cpu)?.flatten_all()?;
        self.compare_doubles(key, &found.to_dtype(DType::F64)?.to_vec1::<f64>()?)
    }

    /// As [`Self::compare`], of f64 values.
    ///
    /// # Errors
    /// As [`Self::compare`].
    pub fn compare_doubles(&self, key: &str, found: &[f64]) -> Result<Comparison> {
        let stored = self.doubles(key)?;
        let tolerance = self
            .tolerances
            .get(key)
            .ok_or_else(|| Error::Malformed(format!("no tolerance for {key}")))?;
        if found.len() != stored.len() {
            return Err(Error::Argument {
                what: "reference tensor",
                expected: format!("{key} with {} values", found.len()),
                found: stored.len().to_string(),
            });
        }
        let pairs = || found.iter().zip(&stored);
        if tolerance.exact {
            let wrong = pairs().filter(|(a, b)| a != b).count();
            return Ok(Comparison {
                key: key.into(),
                error: wrong as f64 / found.len().max(1) as f64,
                limit: 0.0,
            });
        }
        let norm = stored.iter().map(|b| b * b).sum::<f64>().sqrt();
        let error = pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        let scale = if norm > 0.0 { norm } else { 1.0 };
        Ok(Comparison {
            key: key.into(),
            error: error / scale,
            limit: (tolerance.rel * norm + tolerance.abs) / scale,
        })
    }
}
