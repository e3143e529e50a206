//! Files that are whole or not there, and tensors in them under a checksum.

use std::{collections::HashMap, fs, io::Write as _, path::Path};

use candle_core::Device;
use safetensors::{SafeTensors, View as _};
use serde::{Serialize, de::DeserializeOwned};
use vqlc_model::params::Tensors;

use crate::{Error, Result};

/// Writes `bytes` beside `path`, to the disk, then renames them there: a killed process leaves the old file or the new one.
///
/// # Errors
/// [`Error::Io`]; what is there stays then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let written = fs::File::create(partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(partial, path))
        .and_then(|()| match path.parent() {
            // The name itself is on the disk only when its folder is.
            Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
            _ => Ok(()),
        });
    written.map_err(|e| {
        // The write has failed already; what is left of it is only in the way.
        let _ = fs::remove_file(partial);
        Error::io(path, e)
    })
}

/// Writes tensors as a safetensors file whose metadata `key` is `meta` as JSON.
///
/// # Errors
/// [`Error::Io`]; what is there stays then.
pub(crate) fn write_tensors(
    path: &Path,
    key: &str,
    meta: &impl Serialize,
    tensors: &Tensors,
) -> Result<()> {
    let malformed = |why: String| Error::malformed(path, why);
    let meta = serde_json::to_string(meta).map_err(|e| malformed(e.to_string()))?;
    let bytes = safetensors::serialize(tensors, Some(HashMap::from([(key.into(), meta)])))
        .map_err(|e| malformed(e.to_string()))?;
    write_whole(path, &bytes)
}

/// Reads what [`write_tensors`] wrote; the tensors are on the CPU. `what` is such a file in words.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] for a file that is no safetensors or has no such metadata.
pub(crate) fn read_tensors<M: DeserializeOwned>(
    path: &Path,
    key: &str,
    what: &str,
) -> Result<(M, Tensors)> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let malformed = |why: String| Error::malformed(path, why);
    let (_, header) = SafeTensors::read_metadata(&bytes)
        .map_err(|e| malformed(format!("not {what} of vqlc: {e}")))?;
    let text = header.metadata().as_ref().and_then(|m| m.get(key));
    let text = text.ok_or_else(|| malformed(format!("not {what} of vqlc")))?;
    let meta = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    Ok((meta, tensors.into_iter().collect()))
}

/// CRC-32 of a text, then of all names and bytes in the order of the names.
pub(crate) fn checksum(text: &str, tensors: &Tensors) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(text.as_bytes());
    for (name, tensor) in tensors {
        hasher.update(name.as_bytes());
        hasher.update(&tensor.data());
    }
    hasher.finalize()
}

/// Refuses a text and tensors whose checksum is not `expected`.
///
/// # Errors
/// [`Error::Malformed`].
pub(crate) fn expect_checksum(
    path: &Path,
    text: &str,
    tensors: &Tensors,
    expected: u32,
) -> Result<()> {
    let found = checksum(text, tensors);
    if found == expected {
        return Ok(());
    }
    let why = format!("damaged: checksum {found:08x}, expected {expected:08x}");
    Err(Error::malformed(path, why))
}
