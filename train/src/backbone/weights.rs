//! Reading pretrained weights: only the tensors asked for, so that a file with a text tower costs nothing more.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Metadata;
use sha2::{Digest as _, Sha256};
use vqlc_model::{params::Tensors, pickle::read_pth};

use crate::{Error, Result};

/// Bytes of header read at most; safetensors' own limit.
const MAX_HEADER: u64 = 100_000_000;
/// How a zip archive starts.
const ZIP: &[u8] = b"PK\x03\x04";

/// Reads the floating-point tensors whose names `wanted` accepts, in their stored dtype, from a safetensors file or (by any other
/// name) a PyTorch checkpoint.
///
/// # Errors
/// A file that is neither, or a damaged one.
pub(crate) fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Tensors> {
    let is_safetensors = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    if is_safetensors {
        return read_safetensors(path, wanted);
    }
    let mut start = Vec::new();
    (File::open(path).and_then(|file| file.take(ZIP.len() as u64).read_to_end(&mut start)))
        .map_err(|e| Error::io(path, e))?;
    let tensors = read_pth(path).map_err(|e| match e {
        vqlc_model::Error::Malformed(why) if start == ZIP => {
            vqlc_model::Error::Malformed(format!(
                "{why}; a TorchScript archive (OpenAI's own .pt files are such) cannot be read: take a safetensors file"
            ))
        }
        other => other,
    })?;
    let keep = |(name, tensor): &(String, Tensor)| wanted(name) && tensor.dtype().is_float();
    Ok(tensors.into_iter().filter(keep).collect())
}

fn read_safetensors(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Tensors> {
    let io = |e| Error::io(path, e);
    let malformed =
        |why: &dyn std::fmt::Display| Error::malformed(path, format!("not safetensors: {why}"));
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size)
        .map_err(|_| malformed(&"too short"))?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER.min(length) {
        return Err(malformed(&"its header is longer than it may be"));
    }
    let mut header = Vec::new();
    file.by_ref()
        .take(size)
        .read_to_end(&mut header)
        .map_err(io)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| malformed(&e))?;
    let mut tensors = Tensors::new();
    for (name, info) in metadata.tensors() {
        let Some(dtype) = float(info.dtype).filter(|_| wanted(&name)) else {
            continue;
        };
        let (start, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let bytes = (info.shape.iter())
            .try_fold(dtype.size_in_bytes(), |bytes, &side| {
                bytes.checked_mul(side)
            })
            .map(|bytes| bytes as u64);
        let fits = (8 + size).checked_add(end).is_some_and(|end| end <= length);
        if !fits || bytes.is_none() || end.checked_sub(start) != bytes {
            return Err(malformed(&format_args!(
                "tensor {name} does not lie where its header says"
            )));
        }
        let start_at = 8 + size + start;
        file.seek(SeekFrom::Start(start_at)).map_err(io)?;
        let mut bytes = Vec::new();
        file.by_ref()
            .take(end - start)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        let tensor = Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu)?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

fn float(dtype: safetensors::Dtype) -> Option<DType> {
    match dtype {
        safetensors::Dtype::F32 => Some(DType::F32),
        safetensors::Dtype::F16 => Some(DType::F16),
        safetensors::Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// SHA-256 of a file's bytes, in lower-case hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn digest(path: &Path) -> Result<String> {
    let io = |e| Error::io(path, e);
    let mut file = File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Ok(vqlc_model::digest::hex(&hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_file_once_and_torchscript_only_of_a_zip_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        // The start of a checkpoint from before PyTorch 1.6, and that of an archive.
        for (start, hint) in [
            (
                &b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"[..],
                false,
            ),
            (b"neither", false),
            (b"PK\x03\x04", true),
        ] {
            std::fs::write(&path, start).unwrap();
            let error = read(&path, |_| true).unwrap_err().to_string();
            assert_eq!(error.contains("TorchScript"), hint, "{error}");
            assert_eq!(error.matches("weights.pth").count(), 1, "{error}");
        }
        let error = read(&folder.path().join("none.pth"), |_| true).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
