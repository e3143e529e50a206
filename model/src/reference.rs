//! Tensors of an independent implementation, to compare this one with (`vqlc selftest --reference`, the parity tests).
//!
//! A reference folder holds `vqgan.safetensors` (`param.*`, `in.*`, `out.*` and a JSON `config`) and `tolerances.json`
//! (`{file: {key: {rel, abs} | {exact}}}`; a result passes when ||a - b|| <= rel ||b|| + abs).

use std::{collections::BTreeMap, path::Path};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::{
    Error, Result, Tokenizer, VqganConfig,
    convert::{ImportOptions, assemble},
    file::values,
    params::Tensors,
};

const FILE: &str = "vqgan.safetensors";

/// How far a result may be from the stored one.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Tolerance {
    /// Relative to the norm of the stored tensor.
    #[serde(default)]
    pub rel: f64,
    /// In absolute terms, on the norm of the difference.
    #[serde(default)]
    pub abs: f64,
    /// Integers must match.
    #[serde(default)]
    pub exact: bool,
}

/// One comparison made.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Key of the stored tensor.
    pub key: String,
    /// ||a - b|| / ||b||, or the share of integers that differ.
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

/// Second-best gaps below this are too near a tie for f32 results of another summation order to be compared.
const NEAR_TIE: f64 = 1e-4;

/// Runs the VQGAN-LC reference of `folder` on `device` and compares latents, ids, z_q and reconstructions.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_vqgan(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let path = folder.join(FILE);
    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
    let stored = Stored::new(&bytes)?;
    let tolerances = read_tolerances(folder)?;
    let tokenizer = stored.tokenizer(device)?;
    let mut out = Vec::new();
    let mut compare = |key: &str, found: &[f32]| -> Result<()> {
        let tolerance = tolerances
            .get(key)
            .ok_or_else(|| Error::Malformed(format!("no tolerance for {key}")))?;
        out.push(distance(key, found, &stored.floats(key)?.1, *tolerance)?);
        Ok(())
    };

    compare("out.codebook", tokenizer.codebook())?;
    let mut id_checks = Vec::new();
    for suffix in ["", "_nonsquare"] {
        let x = stored.tensor(&format!("in.x{suffix}"), device)?;
        let z = tokenizer.latent(&x)?;
        compare(&format!("out.z{suffix}"), &values(&z)?)?;
        let (batch, _, rows, cols) = z.dims4()?;
        let key = format!("out.ids{suffix}");
        let expected = stored.integers(&key)?;
        let gaps = stored.floats(&format!("out.second_best_gap{suffix}"))?.1;
        id_checks.push(id_errors(key, &tokenizer.quantize(&z)?, &expected, &gaps));
        let z_q = tokenizer.lookup(&expected, batch, rows, cols)?;
        if suffix.is_empty() {
            compare("out.z_q", &values(&z_q)?)?;
        }
        compare(
            &format!("out.recon{suffix}"),
            &values(&tokenizer.decode_tensor(&z_q)?)?,
        )?;
    }
    let (shape, _) = stored.floats("out.decode_only")?;
    let ids = stored.integers("in.decode_ids")?;
    let factor = tokenizer.factor();
    let [batch, _, height, width] = shape[..] else {
        return Err(Error::Malformed(format!(
            "{FILE}: out.decode_only has shape {shape:?}, expected 4 dimensions"
        )));
    };
    compare(
        "out.decode_only",
        &tokenizer.decode(&ids, batch, height / factor, width / factor)?,
    )?;
    out.extend(id_checks);
    Ok(out)
}

fn read_tolerances(folder: &Path) -> Result<BTreeMap<String, Tolerance>> {
    let path = folder.join("tolerances.json");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
    let mut all: BTreeMap<String, BTreeMap<String, Tolerance>> = serde_json::from_str(&text)
        .map_err(|e| Error::Malformed(format!("{}: {e}", path.display())))?;
    all.remove(FILE)
        .ok_or_else(|| Error::Malformed(format!("{}: nothing for {FILE}", path.display())))
}

fn distance(key: &str, found: &[f32], stored: &[f32], tolerance: Tolerance) -> Result<Comparison> {
    if found.len() != stored.len() {
        return Err(Error::Argument {
            what: "reference tensor",
            expected: format!("{key} with {} values", found.len()),
            found: stored.len().to_string(),
        });
    }
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let norm = squares(&mut stored.iter().map(|&b| f64::from(b)));
    let error = squares(
        &mut found
            .iter()
            .zip(stored)
            .map(|(&a, &b)| f64::from(a) - f64::from(b)),
    );
    Ok(Comparison {
        key: key.into(),
        error: error / norm,
        limit: tolerance.rel + tolerance.abs / norm,
    })
}

/// The share of ids that differ where the second best entry is clearly farther.
fn id_errors(key: String, found: &[u32], stored: &[u32], gaps: &[f32]) -> Comparison {
    let clear = stored
        .iter()
        .zip(gaps)
        .zip(found)
        .filter(|((_, gap), _)| f64::from(**gap) >= NEAR_TIE);
    let (count, wrong) = clear.fold((0, 0), |(n, wrong), ((want, _), got)| {
        (n + 1, wrong + usize::from(want != got))
    });
    // Nothing to compare is not a pass.
    let lengths = [found.len(), gaps.len()];
    let error = if count == 0 || lengths != [stored.len(); 2] {
        f64::NAN
    } else {
        wrong as f64 / f64::from(count)
    };
    Comparison {
        key,
        error,
        limit: 0.0,
    }
}

/// A reference file in memory.
struct Stored<'a>(SafeTensors<'a>, VqganConfig);

/// The metadata's `config`: a case around the configuration.
#[derive(Deserialize)]
struct Case {
    config: serde_json::Map<String, serde_json::Value>,
}

impl<'a> Stored<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self> {
        let malformed = |why: String| Error::Malformed(format!("{FILE}: {why}"));
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|e| malformed(e.to_string()))?;
        let text = header.metadata().as_ref().and_then(|m| m.get("config"));
        let case: Case = serde_json::from_str(text.ok_or_else(|| malformed("no config".into()))?)
            .map_err(|e| malformed(e.to_string()))?;
        // The case also carries batch sizes and loss weights, which are not the network's.
        let known = serde_json::to_value(VqganConfig::preset("small-f16")?)
            .map_err(|e| malformed(e.to_string()))?;
        let config = case
            .config
            .into_iter()
            .filter(|(key, _)| known.get(key).is_some())
            .collect();
        let config: VqganConfig =
            serde_json::from_value(config).map_err(|e| malformed(e.to_string()))?;
        Ok(Self(
            SafeTensors::deserialize(bytes).map_err(|e| malformed(e.to_string()))?,
            config,
        ))
    }

    fn tokenizer(&self, device: &Device) -> Result<Tokenizer> {
        let mut tensors = Tensors::new();
        for name in self
            .0
            .names()
            .into_iter()
            .filter_map(|name| name.strip_prefix("param."))
        {
            tensors.insert(
                name.into(),
                self.tensor(&format!("param.{name}"), &Device::Cpu)?,
            );
        }
        let options = ImportOptions {
            config: Some(self.1.clone()),
            ..Default::default()
        };
        Tokenizer::new(&assemble(tensors, &options)?.model, device)
    }

    fn tensor(&self, key: &str, device: &Device) -> Result<Tensor> {
        let (shape, values) = self.floats(key)?;
        Ok(Tensor::from_vec(values, shape, device)?)
    }

    fn floats(&self, key: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let view = self
            .0
            .tensor(key)
            .map_err(|e| Error::Malformed(format!("{FILE}: {key}: {e}")))?;
        Ok((view.shape().to_vec(), crate::file::widen(key, &view)?))
    }

    fn integers(&self, key: &str) -> Result<Vec<u32>> {
        let view = self
            .0
            .tensor(key)
            .map_err(|e| Error::Malformed(format!("{FILE}: {key}: {e}")))?;
        let bad = || Error::Malformed(format!("{FILE}: {key} is not i64 ids"));
        if view.dtype() != safetensors::Dtype::I64 {
            return Err(bad());
        }
        let long = |b: &[u8]| {
            <[u8; 8]>::try_from(b)
                .ok()
                .and_then(|b| u32::try_from(i64::from_le_bytes(b)).ok())
        };
        view.data()
            .chunks_exact(8)
            .map(|b| long(b).ok_or_else(bad))
            .collect()
    }
}
