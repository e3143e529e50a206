//! Weights in other forms made into model files: safetensors with published names, PyTorch checkpoints.

use std::{collections::HashMap, path::Path};

use candle_core::{Device, Tensor};
use half::f16;
use rayon::prelude::*;
use safetensors::SafeTensors;

use crate::{
    Error, Result, VqganConfig,
    file::{CODEBOOK, ModelFile, PROJECTOR, SOURCE, belongs, read_tensors, values},
    params::Tensors,
    pickle::read_pth,
};

/// What [`import`] is told beside the file.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The configuration; without it the file's own metadata, else what the shapes say.
    pub config: Option<VqganConfig>,
    /// Rounds encoder, decoder and projected table to f16, which halves the file. Ids are then those of the rounded model.
    pub half: bool,
    /// Recorded in the model file.
    pub provenance: String,
}

/// A model made from other weights.
#[derive(Debug)]
pub struct Imported {
    /// The model, unfolded.
    pub model: ModelFile,
    /// Names of tensors that no tokenizer needs (losses, discriminators) and that were left out.
    pub left_out: Vec<String>,
}

/// Reads published weights (`.safetensors`, or a PyTorch checkpoint by any other name) and projects their codebook.
///
/// # Errors
/// What is wrong with the file; a tensor that is missing, mis-shaped or of no known use is named.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported> {
    let is_safetensors = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    let (tensors, stated) = if is_safetensors {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        (read_tensors(&bytes)?, config_in_metadata(&bytes)?)
    } else {
        (read_pth(path)?, None)
    };
    assemble(
        tensors,
        &ImportOptions {
            config: options.config.clone().or(stated),
            ..options.clone()
        },
    )
}

/// Makes a model of published weights already in memory.
///
/// # Errors
/// As [`import`].
pub fn assemble(tensors: Tensors, options: &ImportOptions) -> Result<Imported> {
    let (mut tensors, left_out) = sort_out(tensors)?;
    let config = match options.config.clone() {
        Some(config) => config,
        None => infer_config(&tensors)?,
    };
    config.check()?;
    project(&config, &mut tensors)?;
    if options.half {
        round_to_half(&mut tensors)?;
    }
    let model = ModelFile::new(config, options.provenance.clone(), tensors, None)?;
    // Builds the network once, so that a missing, extra or mis-shaped tensor is named now.
    crate::Tokenizer::new(&model, &Device::Cpu)?;
    Ok(Imported { model, left_out })
}

/// The configuration some exporters leave in safetensors metadata under `config`.
fn config_in_metadata(bytes: &[u8]) -> Result<Option<VqganConfig>> {
    let malformed =
        |e: safetensors::SafeTensorError| Error::Malformed(format!("not a safetensors file ({e})"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
    let Some(text) = header
        .metadata()
        .as_ref()
        .and_then(|m: &HashMap<_, _>| m.get("config"))
    else {
        return Ok(None);
    };
    serde_json::from_str(text)
        .map(Some)
        .map_err(|e| Error::Malformed(format!("metadata config: {e}")))
}

/// Strips wrappers' prefixes, leaves out what only training needs, and refuses the rest that is unknown.
fn sort_out(tensors: Tensors) -> Result<(Tensors, Vec<String>)> {
    const WRAPPERS: [&str; 3] = ["module.", "model.", "vqgan."];
    const TRAINING_ONLY: [&str; 5] = [
        "loss.",
        "perceptual_loss.",
        "discriminator.",
        "lpips.",
        "ema.",
    ];
    let (mut kept, mut left_out, mut unknown) = (Tensors::new(), Vec::new(), Vec::new());
    for (full, tensor) in tensors {
        let mut name = full.as_str();
        while let Some(rest) = WRAPPERS.iter().find_map(|prefix| name.strip_prefix(prefix)) {
            name = rest;
        }
        if belongs(name) && name != CODEBOOK {
            let tensor = tensor.to_dtype(candle_core::DType::F32)?;
            if kept.insert(name.into(), tensor).is_some() {
                return Err(Error::Malformed(format!("two tensors stand for {name}")));
            }
        } else if TRAINING_ONLY.iter().any(|prefix| name.starts_with(prefix)) {
            left_out.push(full);
        } else {
            unknown.push(full);
        }
    }
    match unknown.first() {
        Some(first) => Err(Error::ExtraTensors {
            first: first.clone(),
            count: unknown.len(),
        }),
        None => Ok((kept, left_out)),
    }
}

fn shape_of<'a>(tensors: &'a Tensors, name: &str, rank: usize) -> Result<&'a [usize]> {
    let missing = || Error::MissingTensor {
        name: name.into(),
        expected: vec![],
    };
    let dims = tensors.get(name).ok_or_else(missing)?.dims();
    if dims.len() != rank {
        return Err(Error::Malformed(format!(
            "tensor {name} has {} dimensions, expected {rank}",
            dims.len()
        )));
    }
    Ok(dims)
}

/// Reads the configuration off the tensors' names and shapes. Resolution 256 and 32 groups, as published, are taken for granted.
fn infer_config(tensors: &Tensors) -> Result<VqganConfig> {
    let ch = shape_of(tensors, "encoder.conv_in.weight", 4)?[0];
    let count = |name: &dyn Fn(usize) -> String| {
        (0..64)
            .take_while(|&i| tensors.contains_key(&name(i)))
            .count()
    };
    let levels = count(&|i| format!("encoder.down.{i}.block.0.conv1.weight"));
    let ch_mult = (0..levels)
        .map(|i| {
            Ok(shape_of(
                tensors,
                &format!("encoder.down.{i}.block.0.conv1.weight"),
                4,
            )?[0]
                / ch.max(1))
        })
        .collect::<Result<_>>()?;
    let resolution = 256;
    let attn_resolutions = (0..levels)
        .filter(|i| tensors.contains_key(&format!("encoder.down.{i}.attn.0.q.weight")))
        .map(|i| resolution >> i)
        .collect();
    let book = shape_of(tensors, SOURCE, 2)?;
    Ok(VqganConfig {
        ch,
        ch_mult,
        num_res_blocks: count(&|i| format!("encoder.down.0.block.{i}.conv1.weight")),
        attn_resolutions,
        resolution,
        in_channels: 3,
        out_ch: 3,
        z_channels: shape_of(tensors, "encoder.conv_out.weight", 4)?[0],
        double_z: false,
        embed_dim: shape_of(tensors, "quant_conv.weight", 4)?[0],
        n_codes: book[0],
        code_dim: book[1],
        norm_group_size: None,
    })
}

/// Computes B' = P(B) (paper section 3.2), each value in f64 and rounded once.
fn project(config: &VqganConfig, tensors: &mut Tensors) -> Result<()> {
    let VqganConfig {
        n_codes,
        embed_dim,
        code_dim,
        ..
    } = *config;
    let take = |name: &str, expected: &[usize]| -> Result<Vec<f32>> {
        let missing = || Error::MissingTensor {
            name: name.into(),
            expected: expected.to_vec(),
        };
        let tensor = tensors.get(name).ok_or_else(missing)?;
        if tensor.dims() != expected {
            let found = tensor.dims().to_vec();
            return Err(Error::TensorShape {
                name: name.into(),
                expected: expected.to_vec(),
                found,
            });
        }
        values(tensor)
    };
    let book = take(SOURCE, &[n_codes, code_dim])?;
    let weight = take(PROJECTOR[0], &[embed_dim, code_dim])?;
    let bias = take(PROJECTOR[1], &[embed_dim])?;
    let mut table = vec![0f32; n_codes * embed_dim];
    table
        .par_chunks_mut(embed_dim)
        .zip(book.par_chunks(code_dim))
        .for_each(|(out, entry)| {
            for ((out, row), bias) in out.iter_mut().zip(weight.chunks(code_dim)).zip(&bias) {
                let dot: f64 = entry
                    .iter()
                    .zip(row)
                    .map(|(&b, &w)| f64::from(b) * f64::from(w))
                    .sum();
                *out = (dot + f64::from(*bias)) as f32;
            }
        });
    tensors.insert(
        CODEBOOK.into(),
        Tensor::from_vec(table, (n_codes, embed_dim), &Device::Cpu)?,
    );
    Ok(())
}

/// Rounds a model's tensors to f16, all but those that its codebook was projected from.
///
/// # Errors
/// A weight that is too large for f16.
pub fn round_to_half(tensors: &mut Tensors) -> Result<()> {
    for (name, tensor) in tensors {
        if name != SOURCE && !PROJECTOR.contains(&name.as_str()) {
            *tensor = round_to_f16(tensor)?;
        }
    }
    Ok(())
}

fn round_to_f16(tensor: &Tensor) -> Result<Tensor> {
    let rounded: Vec<f32> = values(tensor)?
        .into_iter()
        .map(|v| f16::from_f32(v).to_f32())
        .collect();
    if rounded.iter().any(|v| !v.is_finite()) {
        return Err(Error::Malformed(
            "a weight is too large for f16: convert without --half".into(),
        ));
    }
    Ok(Tensor::from_vec(rounded, tensor.dims(), &Device::Cpu)?)
}
