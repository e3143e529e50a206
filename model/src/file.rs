//! Model files: one safetensors file that holds everything a tokenizer is.
//!
//! | tensor | shape | |
//! |---|---|---|
//! | `encoder.*`, `quant_conv.*` | | the encoder |
//! | `decoder.*`, `post_quant_conv.*` | | the decoder |
//! | `codebook.weight` | `[n_codes, embed_dim]` | the projected table B', in which ids are looked up |
//! | `codebook_projection.weight`, `.bias` | `[embed_dim, code_dim]`, `[embed_dim]` | the projector P |
//! | `tok_embeddings.weight` | `[n_codes, code_dim]` | the static codebook B; not in a folded file |
//!
//! B' = P(B) is computed once, when the file is made, and never again: another device would round it differently.
//! The metadata is one entry, `vqlc`: JSON with `version`, `config`, `digests` and `provenance`. A tensor is stored as f16
//! when that loses nothing, else as f32; digests are of the values as used, so the stored dtype does not matter.
//! The projector and the provenance are for people and for training: no digest covers them.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use candle_core::{DType, Device, Tensor};
use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{
    Error, ModelDigests, Result, VqganConfig,
    digest::{HexDigests, TensorHasher, hex},
    params::Tensors,
};

/// The version of model files written and read here.
pub const VERSION: &str = "1";
const META_KEY: &str = "vqlc";
/// Name of the projected table B'.
pub const CODEBOOK: &str = "codebook.weight";
/// Name of the static codebook B, as in published checkpoints.
pub const SOURCE: &str = "tok_embeddings.weight";
/// Names of the projector P, as in published checkpoints.
pub const PROJECTOR: [&str; 2] = ["codebook_projection.weight", "codebook_projection.bias"];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    version: String,
    config: VqganConfig,
    digests: HexDigests,
    provenance: String,
}

/// Only the version, read first so that a newer file is called newer rather than malformed.
#[derive(Deserialize)]
struct MetaVersion {
    version: String,
}

/// A model in memory: configuration, f32 tensors on the CPU, digests.
#[derive(Clone, Debug)]
pub struct ModelFile {
    config: VqganConfig,
    provenance: String,
    digests: ModelDigests,
    tensors: Arc<Tensors>,
}

/// The part of the network a tensor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Encoder,
    Decoder,
    Codebook,
    Source,
    Projector,
}

impl Part {
    fn of(name: &str) -> Option<Self> {
        if name.starts_with("encoder.") || name.starts_with("quant_conv.") {
            Some(Self::Encoder)
        } else if name.starts_with("decoder.") || name.starts_with("post_quant_conv.") {
            Some(Self::Decoder)
        } else if name == CODEBOOK {
            Some(Self::Codebook)
        } else if name == SOURCE {
            Some(Self::Source)
        } else if PROJECTOR.contains(&name) {
            Some(Self::Projector)
        } else {
            None
        }
    }
}

/// Whether a tensor of this name has a place in a model file.
pub(crate) fn belongs(name: &str) -> bool {
    Part::of(name).is_some()
}

impl ModelFile {
    /// Puts a model together and computes its digests. `source` is the digest of the static codebook if `tensors` lack it.
    ///
    /// # Errors
    /// A tensor missing, left over or of another shape than `config` asks for.
    pub fn new(
        config: VqganConfig,
        provenance: String,
        tensors: Tensors,
        source: Option<[u8; 32]>,
    ) -> Result<Self> {
        config.check()?;
        check_tables(&config, &tensors)?;
        let mut digests = ModelDigests {
            codebook: digest(&tensors, Part::Codebook, "")?,
            encoder: digest(&tensors, Part::Encoder, &config.digest_note())?,
            decoder: digest(&tensors, Part::Decoder, &config.digest_note())?,
            source: source.unwrap_or_default(),
        };
        if tensors.contains_key(SOURCE) {
            digests.source = digest(&tensors, Part::Source, "")?;
        }
        Ok(Self {
            config,
            provenance,
            digests,
            tensors: Arc::new(tensors),
        })
    }

    /// Reads a model file and verifies its digests.
    ///
    /// # Errors
    /// [`Error::NotConverted`] for weights in another form, [`Error::Malformed`] or [`Error::Digest`] for damage.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::from_bytes(&bytes).map_err(|e| match e {
            Error::Malformed(why) => Error::Malformed(format!("{}: {why}", path.display())),
            other => other,
        })
    }

    /// As [`Self::read`], from the file's bytes.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let malformed = |e: safetensors::SafeTensorError| {
            Error::Malformed(format!("not a safetensors file ({e})"))
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
        let Some(meta) = header.metadata().as_ref().and_then(|m| m.get(META_KEY)) else {
            return Err(Error::NotConverted);
        };
        let bad_meta = |e: serde_json::Error| Error::Malformed(format!("metadata: {e}"));
        let MetaVersion { version } = serde_json::from_str(meta).map_err(bad_meta)?;
        if version != VERSION {
            return Err(Error::Version {
                found: version,
                expected: VERSION,
            });
        }
        let meta: Meta = serde_json::from_str(meta).map_err(bad_meta)?;
        let stated = ModelDigests::try_from(&meta.digests).map_err(Error::Malformed)?;
        let model = Self::new(
            meta.config,
            meta.provenance,
            read_tensors(bytes)?,
            Some(stated.source),
        )?;
        let found = model.digests;
        for (part, expected, found) in [
            ("codebook", stated.codebook, found.codebook),
            ("encoder", stated.encoder, found.encoder),
            ("decoder", stated.decoder, found.decoder),
            ("source", stated.source, found.source),
        ] {
            if expected != found {
                return Err(Error::Digest {
                    part,
                    expected: hex(&expected),
                    found: hex(&found),
                });
            }
        }
        Ok(model)
    }

    /// Writes the file beside its place, then renames it there. The bytes depend on the model alone.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        use std::io::Write as _;
        let bytes = self.to_bytes()?;
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = Path::new(&partial);
        let written = std::fs::File::create(partial)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(partial, path));
        written.map_err(|e| {
            // The write has failed already; what is left of it is only in the way.
            let _ = std::fs::remove_file(partial);
            Error::io(path, e)
        })
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// A tensor that cannot be brought to the CPU.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let meta = Meta {
            version: VERSION.into(),
            config: self.config.clone(),
            digests: (&self.digests).into(),
            provenance: self.provenance.clone(),
        };
        let meta = serde_json::to_string(&meta).map_err(|e| Error::Malformed(e.to_string()))?;
        let mut stored = BTreeMap::new();
        for (name, tensor) in self.tensors.iter() {
            stored.insert(
                name.clone(),
                (tensor.dims().to_vec(), compact(&values(tensor)?)),
            );
        }
        let views = stored
            .iter()
            .map(|(name, (shape, (dtype, data)))| {
                Ok((name, TensorView::new(*dtype, shape.clone(), data)?))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| Error::Malformed(e.to_string()))?;
        safetensors::serialize(views, Some(HashMap::from([(META_KEY.into(), meta)])))
            .map_err(|e| Error::Malformed(e.to_string()))
    }

    /// Drops the static codebook B: ids and pictures need only the projected table. Its digest stays.
    pub fn fold(self) -> Self {
        let mut tensors = (*self.tensors).clone();
        tensors.remove(SOURCE);
        Self {
            tensors: Arc::new(tensors),
            ..self
        }
    }

    /// The network's configuration.
    pub fn config(&self) -> &VqganConfig {
        &self.config
    }

    /// Where the model came from, as text.
    pub fn provenance(&self) -> &str {
        &self.provenance
    }

    /// The digests of its parts.
    pub fn digests(&self) -> &ModelDigests {
        &self.digests
    }

    /// All tensors by name, f32, on the CPU.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Whether the static codebook B has been dropped.
    pub fn is_folded(&self) -> bool {
        !self.tensors.contains_key(SOURCE)
    }

    /// Number of parameters of encoder and decoder (with quant_conv and post_quant_conv).
    pub fn network_parameters(&self) -> usize {
        let network = |name: &str| matches!(Part::of(name), Some(Part::Encoder | Part::Decoder));
        self.tensors
            .iter()
            .filter(|(name, _)| network(name))
            .map(|(_, t)| t.elem_count())
            .sum()
    }

    /// The projected table B', row-major `[n_codes, embed_dim]`.
    ///
    /// # Errors
    /// None for a model that was read or made here.
    pub fn codebook(&self) -> Result<Vec<f32>> {
        let expected = vec![self.config.n_codes, self.config.embed_dim];
        let missing = || Error::MissingTensor {
            name: CODEBOOK.into(),
            expected,
        };
        values(self.tensors.get(CODEBOOK).ok_or_else(missing)?)
    }

    /// The tensors of the encoder.
    pub(crate) fn encoder_tensors(&self) -> Arc<Tensors> {
        self.part(Part::Encoder)
    }

    /// The tensors of the decoder.
    pub(crate) fn decoder_tensors(&self) -> Arc<Tensors> {
        self.part(Part::Decoder)
    }

    fn part(&self, part: Part) -> Arc<Tensors> {
        let of_part = |(name, t): (&String, &Tensor)| {
            (Part::of(name) == Some(part)).then(|| (name.clone(), t.clone()))
        };
        Arc::new(self.tensors.iter().filter_map(of_part).collect())
    }
}

/// Reads a safetensors file's tensors as f32 on the CPU.
pub(crate) fn read_tensors(bytes: &[u8]) -> Result<Tensors> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| Error::Malformed(format!("not a safetensors file ({e})")))?;
    file.iter()
        .map(|(name, view)| {
            let values = widen(name, &view)?;
            Ok((
                name.to_string(),
                Tensor::from_vec(values, view.shape(), &Device::Cpu)?,
            ))
        })
        .collect()
}

/// A stored tensor's values, row-major, widened to f32.
pub(crate) fn widen(name: &str, view: &TensorView) -> Result<Vec<f32>> {
    let data = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Dtype::F16 => data
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        Dtype::BF16 => data
            .chunks_exact(2)
            .map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        other => {
            return Err(Error::Malformed(format!(
                "tensor {name} is {other:?}, expected F32, F16 or BF16"
            )));
        }
    })
}

/// A tensor's values, row-major, widened to f32.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1()?)
}

/// f16 where that loses nothing (NaN payloads aside), else f32.
fn compact(values: &[f32]) -> (Dtype, Vec<u8>) {
    if values
        .iter()
        .all(|&v| f16::from_f32(v).to_f32().to_bits() == v.to_bits())
    {
        (
            Dtype::F16,
            values
                .iter()
                .flat_map(|&v| f16::from_f32(v).to_le_bytes())
                .collect(),
        )
    } else {
        (
            Dtype::F32,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }
}

fn digest(tensors: &Tensors, part: Part, note: &str) -> Result<[u8; 32]> {
    let mut hasher = TensorHasher::new(note);
    for (name, tensor) in tensors
        .iter()
        .filter(|(name, _)| Part::of(name) == Some(part))
    {
        hasher.tensor(name, tensor.dims(), &values(tensor)?);
    }
    Ok(hasher.finish())
}

/// The tables' shapes, and that nothing is left over. That they are finite is seen when the search is prepared. The networks check their own tensors when they are built.
fn check_tables(config: &VqganConfig, tensors: &Tensors) -> Result<()> {
    let VqganConfig {
        n_codes,
        embed_dim,
        code_dim,
        ..
    } = *config;
    for (name, expected, required) in [
        (CODEBOOK, vec![n_codes, embed_dim], true),
        (SOURCE, vec![n_codes, code_dim], false),
        (PROJECTOR[0], vec![embed_dim, code_dim], false),
        (PROJECTOR[1], vec![embed_dim], false),
    ] {
        match tensors.get(name) {
            Some(tensor) if tensor.dims() == expected => {}
            Some(tensor) => {
                return Err(Error::TensorShape {
                    name: name.into(),
                    expected,
                    found: tensor.dims().to_vec(),
                });
            }
            None if required => {
                return Err(Error::MissingTensor {
                    name: name.into(),
                    expected,
                });
            }
            None => {}
        }
    }
    let mut extra = tensors.keys().filter(|name| !belongs(name));
    match extra.next() {
        Some(first) => Err(Error::ExtraTensors {
            first: first.clone(),
            count: 1 + extra.count(),
        }),
        None => Ok(()),
    }
}
