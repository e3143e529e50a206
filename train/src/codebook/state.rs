//! An unfinished K-means on disk, so that a run that was stopped goes on where it was.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::{file::write_tensors, kmeans::State};
use crate::{Error, Result};

const KEY: &str = "vqlc_codebook_state";

#[derive(Serialize, Deserialize)]
struct Meta {
    job: String,
    iteration: u32,
    /// As bits: JSON's decimals need not come back the same.
    inertia: u64,
    settled: bool,
}

/// The state file that belongs to an output.
pub fn state_path(out: &Path) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(".state");
    path.into()
}

/// Writes `state` of the job with digest `job`, atomically.
pub(super) fn write(path: &Path, job: &str, state: &State, dim: usize) -> Result<()> {
    let meta = Meta {
        job: job.into(),
        iteration: state.iteration,
        inertia: state.inertia.to_bits(),
        settled: state.settled,
    };
    let meta = serde_json::to_string(&meta).map_err(|e| Error::malformed(path, e.to_string()))?;
    let centres: Vec<u8> = state.centres.iter().flat_map(|v| v.to_le_bytes()).collect();
    let integers = |v: &[u32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (ids, counts) = (integers(&state.ids), integers(&state.counts));
    let codes = state.centres.len() / dim;
    write_tensors(
        path,
        vec![
            ("centres", Dtype::F32, vec![codes, dim], &centres),
            ("ids", Dtype::U32, vec![state.ids.len()], &ids),
            ("counts", Dtype::U32, vec![codes], &counts),
        ],
        HashMap::from([(KEY.to_owned(), meta)]),
    )
}

/// Reads the state of the job with digest `job`, of `codes` centres of `dim` numbers and `points` features.
pub(super) fn read(
    path: &Path,
    job: &str,
    (codes, dim, points): (usize, usize, usize),
) -> Result<State> {
    let malformed = |why: &str| Error::malformed(path, format!("no state to go on from: {why}"));
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| malformed(&e.to_string()))?;
    let text = header.metadata().as_ref().and_then(|m| m.get(KEY));
    let meta: Meta = serde_json::from_str(text.map_or("", String::as_str))
        .map_err(|e| malformed(&e.to_string()))?;
    if meta.job != job {
        return Err(malformed("it is of other pictures, weights or settings"));
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|e| malformed(&e.to_string()))?;
    let get = |name: &str, shape: &[usize], dtype: DType| -> Result<Tensor> {
        tensors
            .get(name)
            .filter(|t| t.dims() == shape && t.dtype() == dtype)
            .ok_or_else(|| malformed(&format!("tensor {name} is not as it should be")))
            .and_then(|t| Ok(t.flatten_all()?))
    };
    let state = State {
        centres: get("centres", &[codes, dim], DType::F32)?.to_vec1()?,
        ids: get("ids", &[points], DType::U32)?.to_vec1()?,
        counts: get("counts", &[codes], DType::U32)?.to_vec1()?,
        iteration: meta.iteration,
        inertia: f64::from_bits(meta.inertia),
        settled: meta.settled,
    };
    if !state.centres.iter().all(|v| v.is_finite()) {
        return Err(malformed("a centre is not finite"));
    }
    Ok(state)
}
