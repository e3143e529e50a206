//! The whole network: `vqgan.safetensors`.

use std::path::Path;

use candle_core::{Device, Tensor};

use super::{Comparison, ReferenceFile};
use crate::{
    Error, Result, Tokenizer, VqganConfig,
    convert::{ImportOptions, assemble},
    file::values,
    params::Tensors,
};

const FILE: &str = "vqgan.safetensors";

/// Second-best gaps below this are too near a tie for f32 results of another summation order to be compared.
const NEAR_TIE: f64 = 1e-4;

/// Runs the VQGAN-LC reference of `folder` on `device` and compares latents, ids, z_q and reconstructions.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_vqgan(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let tokenizer = tokenizer(&stored, device)?;
    let mut out = Vec::new();
    let mut compare = |key: &str, found: &[f32]| -> Result<()> {
        let found = Tensor::from_slice(found, found.len(), &Device::Cpu)?;
        out.push(stored.compare(key, &found)?);
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
        let gaps = values(&stored.tensor(&format!("out.second_best_gap{suffix}"), &Device::Cpu)?)?;
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
    let ids = stored.integers("in.decode_ids")?;
    let factor = tokenizer.factor();
    let (batch, _, height, width) = stored.tensor("out.decode_only", device)?.dims4()?;
    compare(
        "out.decode_only",
        &tokenizer.decode(&ids, batch, height / factor, width / factor)?,
    )?;
    out.extend(id_checks);
    Ok(out)
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

/// The configuration and the parameters of the network in `file`, which is `vqgan.safetensors`.
///
/// # Errors
/// A file that does not hold what it should.
pub fn vqgan_parameters(file: &ReferenceFile) -> Result<(VqganConfig, Tensors)> {
    // The case also carries batch sizes and loss weights, which are not the network's.
    let malformed = |e: serde_json::Error| Error::Malformed(format!("{FILE}: {e}"));
    let known = serde_json::to_value(VqganConfig::preset("small-f16")?).map_err(malformed)?;
    let config = file
        .config()
        .iter()
        .filter(|(key, _)| known.get(key).is_some())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Ok((
        serde_json::from_value(serde_json::Value::Object(config)).map_err(malformed)?,
        file.parameters("param.")?,
    ))
}

fn tokenizer(file: &ReferenceFile, device: &Device) -> Result<Tokenizer> {
    let (config, tensors) = vqgan_parameters(file)?;
    let options = ImportOptions {
        config: Some(config),
        ..Default::default()
    };
    Tokenizer::new(&assemble(tensors, &options)?.model, device)
}
