//! SHA-256 digests that tie a token file to its tokenizer.
//!
//! A digest covers tensors as they are used, so it does not change when a file stores them as f16 or f32:
//!
//! ```text
//! u64 length of the note, the note (UTF-8)         what the tensors do not tell: the GroupNorm rule
//! for each tensor, in byte order of the names:
//!   u64 length of the name, the name (UTF-8)
//!   u64 number of dimensions, each dimension as u64
//!   each value widened to f32, row-major
//! ```
//!
//! All numbers are little-endian. The note is empty for codebook and source.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The digests of a model, each SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelDigests {
    /// The projected table B' in which ids are looked up.
    pub codebook: [u8; 32],
    /// The encoder with quant_conv.
    pub encoder: [u8; 32],
    /// The decoder with post_quant_conv.
    pub decoder: [u8; 32],
    /// The static codebook B, for provenance; all zero when unknown.
    pub source: [u8; 32],
}

/// [`ModelDigests`] as hexadecimal text, as they stand in a model file's metadata.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HexDigests {
    pub(crate) codebook: String,
    pub(crate) encoder: String,
    pub(crate) decoder: String,
    pub(crate) source: String,
}

impl From<&ModelDigests> for HexDigests {
    fn from(d: &ModelDigests) -> Self {
        Self {
            codebook: hex(&d.codebook),
            encoder: hex(&d.encoder),
            decoder: hex(&d.decoder),
            source: hex(&d.source),
        }
    }
}

impl TryFrom<&HexDigests> for ModelDigests {
    type Error = String;

    fn try_from(d: &HexDigests) -> Result<Self, String> {
        Ok(Self {
            codebook: unhex(&d.codebook)?,
            encoder: unhex(&d.encoder)?,
            decoder: unhex(&d.decoder)?,
            source: unhex(&d.source)?,
        })
    }
}

/// Lower-case hexadecimal.
pub fn hex(digest: &[u8; 32]) -> String {
    digest
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn unhex(text: &str) -> Result<[u8; 32], String> {
    let bytes = text.as_bytes();
    let bad = || format!("digest {text:?} is not 64 hexadecimal digits");
    if bytes.len() != 64 {
        return Err(bad());
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16).ok_or_else(bad);
        // Two digits make at most 255.
        *byte = (16 * digit(pair[0])? + digit(pair[1])?) as u8;
    }
    Ok(out)
}

/// A digest under construction.
pub(crate) struct TensorHasher(Sha256);

impl TensorHasher {
    pub(crate) fn new(note: &str) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.text(note);
        hasher
    }

    fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    /// Adds a tensor; the caller keeps the order of names.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.text(name);
        self.0.update((shape.len() as u64).to_le_bytes());
        for &dim in shape {
            self.0.update((dim as u64).to_le_bytes());
        }
        let mut bytes = Vec::with_capacity(4 * 4096);
        for chunk in values.chunks(4096) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
            self.0.update(&bytes);
        }
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(note: &str, name: &str, shape: &[usize], values: &[f32]) -> [u8; 32] {
        let mut hasher = TensorHasher::new(note);
        hasher.tensor(name, shape, values);
        hasher.finish()
    }

    #[test]
    fn everything_counts() {
        let base = digest("groups=32", "a", &[2, 1], &[1.0, 2.0]);
        assert_ne!(base, digest("groups=16", "a", &[2, 1], &[1.0, 2.0]));
        assert_ne!(base, digest("groups=32", "b", &[2, 1], &[1.0, 2.0]));
        assert_ne!(base, digest("groups=32", "a", &[1, 2], &[1.0, 2.0]));
        assert_ne!(base, digest("groups=32", "a", &[2, 1], &[1.0, 2.5]));
    }

    /// The layout in the module's documentation, written out by hand once.
    #[test]
    fn the_documented_bytes() {
        let mut bytes = Vec::new();
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(b"n");
        bytes.extend(2u64.to_le_bytes());
        bytes.extend(b"ab");
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(1.5f32.to_le_bytes());
        assert_eq!(
            <[u8; 32]>::from(Sha256::digest(&bytes)),
            digest("n", "ab", &[1], &[1.5])
        );
    }

    #[test]
    fn hex_round_trip() {
        let digest = digest("", "x", &[1], &[0.0]);
        assert_eq!(unhex(&hex(&digest)), Ok(digest));
        assert!(
            unhex("00").is_err()
                && unhex(&"+f".repeat(32)).is_err()
                && unhex(&"zz".repeat(32)).is_err()
                && unhex(&"é".repeat(32)).is_err()
        );
    }
}
