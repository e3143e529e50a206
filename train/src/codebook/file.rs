//! Codebook files: safetensors with the static table B, where it comes from, and its digest.

use std::{collections::HashMap, path::Path};

use candle_core::{DType, Device, Tensor};
use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vqlc_model::{digest::hex, file::SOURCE};

use crate::{Error, Result, files::write_whole};

/// The one metadata key: of several, safetensors stores the order at random, and equal codebooks are to be equal files.
const META: &str = "vqlc_codebook";
/// Name of the tensor of cluster sizes.
const COUNTS: &str = "counts";

/// How entries were chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// Centres of K-means clusters.
    #[default]
    Kmeans,
    /// Distinct features drawn at random.
    Random,
}

/// Where a codebook comes from: with the same pictures and weights, the same again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// vqlc's version.
    pub version: String,
    /// Name of the backbone.
    pub backbone: String,
    /// SHA-256 of the file of weights.
    pub weights: String,
    /// SHA-256 over the names and lengths of the pictures ([`crate::data::Pictures::digest`]).
    pub pictures: String,
    /// How many pictures were found.
    pub picture_count: u64,
    /// How many of them could not be read.
    pub unreadable: u64,
    /// How entries were chosen.
    pub select: Select,
    /// Number of classes the codes were split among; none for one K-means over everything.
    pub classes: Option<u64>,
    /// The seed.
    pub seed: u64,
    /// Lloyd iterations made.
    pub iterations: u32,
    /// Sum of squared distances of features to their centres at the start of the last iteration, before scaling.
    pub inertia: Option<f64>,
    /// Views of each picture.
    pub views: u32,
    /// Side of the square that features were averaged over.
    pub pool: u32,
    /// Features there were.
    pub features: u64,
    /// Features kept within the budget, a seeded sample of them.
    pub kept: u64,
    /// Standard deviation of all numbers of all entries, which they were divided by.
    pub scale: f32,
}

/// What the metadata holds, as JSON.
#[derive(Serialize, Deserialize)]
struct Meta {
    digest: String,
    provenance: Option<Provenance>,
}

/// A static codebook B.
#[derive(Clone, Debug, PartialEq)]
pub struct Codebook {
    entries: Vec<f32>,
    dim: usize,
    counts: Vec<u32>,
    provenance: Option<Provenance>,
}

impl Codebook {
    /// A codebook of `entries` `[n, dim]`, row-major. `counts` `[n]`: of how many features each entry is the mean; may be empty (unknown).
    ///
    /// # Errors
    /// No entries; lengths that do not fit; numbers that are not finite.
    pub fn new(
        entries: Vec<f32>,
        dim: usize,
        counts: Vec<u32>,
        provenance: Option<Provenance>,
    ) -> Result<Self> {
        let refused = |expected: String, found: String| Error::Argument {
            what: "codebook",
            expected,
            found,
        };
        if dim == 0 || entries.is_empty() || !entries.len().is_multiple_of(dim) {
            return Err(refused(
                "whole rows".into(),
                format!("{} numbers in rows of {dim}", entries.len()),
            ));
        }
        if !counts.is_empty() && counts.len() != entries.len() / dim {
            return Err(refused(
                format!("{} counts", entries.len() / dim),
                counts.len().to_string(),
            ));
        }
        if let Some(value) = entries.iter().find(|v| !v.is_finite()) {
            return Err(refused("finite numbers".into(), value.to_string()));
        }
        Ok(Self {
            entries,
            dim,
            counts,
            provenance,
        })
    }

    /// Number of entries.
    pub fn codes(&self) -> usize {
        self.entries.len() / self.dim
    }

    /// Numbers in an entry.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `[codes, dim]` f32, row-major.
    pub fn entries(&self) -> &[f32] {
        &self.entries
    }

    /// `[codes, dim]` f32 on `device`.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_slice(
            &self.entries,
            (self.codes(), self.dim),
            device,
        )?)
    }

    /// Of how many features each entry is the mean; empty where the file does not tell.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Where it comes from; none for a table that vqlc did not make.
    pub fn provenance(&self) -> Option<&Provenance> {
        self.provenance.as_ref()
    }

    /// SHA-256 of the entries, in the layout of [`vqlc_model::digest`]: the `source` digest of a model with this codebook.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(0u64.to_le_bytes());
        hash.update((SOURCE.len() as u64).to_le_bytes());
        hash.update(SOURCE);
        for number in [2, self.codes() as u64, self.dim as u64] {
            hash.update(number.to_le_bytes());
        }
        for row in self.entries.chunks(self.dim) {
            let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
            hash.update(&bytes);
        }
        hash.finalize().into()
    }

    /// Writes the file beside its place, then renames it there: f16 where that loses nothing, else f32.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, path: &Path) -> Result<()> {
        let exact = self
            .entries
            .iter()
            .all(|&v| f16::from_f32(v).to_f32().to_bits() == v.to_bits());
        let (dtype, data): (_, Vec<u8>) = if exact {
            let half = self.entries.iter().map(|&v| f16::from_f32(v).to_le_bytes());
            (Dtype::F16, half.flatten().collect())
        } else {
            let full = self.entries.iter().map(|v| v.to_le_bytes());
            (Dtype::F32, full.flatten().collect())
        };
        let counts: Vec<u8> = (self.counts.iter())
            .flat_map(|&c| i64::from(c).to_le_bytes())
            .collect();
        let meta = Meta {
            digest: hex(&self.digest()),
            provenance: self.provenance.clone(),
        };
        let meta =
            serde_json::to_string(&meta).map_err(|e| Error::malformed(path, e.to_string()))?;
        let metadata = HashMap::from([(META.to_owned(), meta)]);
        let mut tensors = vec![(SOURCE, dtype, vec![self.codes(), self.dim], data.as_slice())];
        if !self.counts.is_empty() {
            tensors.push((COUNTS, Dtype::I64, vec![self.codes()], &counts));
        }
        write_tensors(path, tensors, metadata)
    }

    /// Reads a codebook: what [`Self::write`] wrote, or any safetensors file with a floating-point tensor `tok_embeddings.weight` `[n, dim]`.
    ///
    /// # Errors
    /// A file that is neither; a digest that is not that of the entries.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let malformed = |why: String| Error::malformed(path, why);
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| malformed(format!("not a safetensors file ({e})")))?;
        let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|e| malformed(format!("not a safetensors file ({e})")))?;
        let table = tensors
            .remove(SOURCE)
            .filter(|t| t.rank() == 2 && t.dtype().is_float())
            .ok_or_else(|| malformed(format!("no codebook: no table {SOURCE} in it")))?;
        let dim = table.dim(1)?;
        let entries = table.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        let counts = match tensors.remove(COUNTS) {
            None => Vec::new(),
            Some(counts) => (counts.flatten_all()?.to_dtype(DType::I64)?)
                .to_vec1::<i64>()?
                .into_iter()
                .map(u32::try_from)
                .collect::<Result<_, _>>()
                .map_err(|_| malformed("a cluster size is out of range".into()))?,
        };
        let text = header.metadata().as_ref().and_then(|m| m.get(META));
        let meta: Option<Meta> = text
            .map(|text| serde_json::from_str(text))
            .transpose()
            .map_err(|e| malformed(format!("its provenance: {e}")))?;
        let (stated, provenance) = match meta {
            Some(meta) => (Some(meta.digest), meta.provenance),
            None => (None, None),
        };
        let codebook =
            Self::new(entries, dim, counts, provenance).map_err(|e| malformed(e.to_string()))?;
        match stated {
            Some(stated) if stated != hex(&codebook.digest()) => Err(malformed(
                "its digest is not that of its entries: the file is damaged or was edited".into(),
            )),
            _ => Ok(codebook),
        }
    }
}

/// A tensor to store: name, dtype, shape, bytes.
pub(super) type Stored<'a> = (&'a str, Dtype, Vec<usize>, &'a [u8]);

/// Writes safetensors beside `path`, then renames it there.
pub(super) fn write_tensors(
    path: &Path,
    tensors: Vec<Stored>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let malformed = |e: safetensors::SafeTensorError| Error::malformed(path, e.to_string());
    let views = tensors
        .into_iter()
        .map(|(name, dtype, shape, data)| Ok((name, TensorView::new(dtype, shape, data)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(malformed)?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(malformed)?;
    write_whole(path, &bytes)
}
