//! SHA-256 digests: of blocks and sections, of the whole content, and of the tokenizer that made the ids.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest. Shown and parsed as 64 hexadecimal digits (written in lower case).
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Digest {
    /// The first 16 of 64 digits: enough for people to tell digests apart.
    pub fn short(&self) -> String {
        self.to_string()[..16].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 digest: expected 64 hexadecimal digits, found {0:?}")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseDigestError(text.chars().take(80).collect());
        let text_bytes = text.as_bytes();
        if text_bytes.len() != 64 {
            return Err(refuse());
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text_bytes.chunks_exact(2)) {
            for &digit in pair {
                let value = char::from(digit).to_digit(16).ok_or_else(refuse)?;
                *byte = (*byte << 4) | value as u8;
            }
        }
        Ok(Self(digest))
    }
}

/// What made the ids. Ids mean the same where `codebook` and `encoder` agree; the decoder may be another one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Encode, Decode)]
pub struct Digests {
    /// The projected table B' in which ids are looked up.
    pub codebook: Digest,
    /// The encoder together with `quant_conv`.
    pub encoder: Digest,
    /// The decoder together with `post_quant_conv`.
    pub decoder: Digest,
    /// The static codebook B from which B' was projected, for provenance.
    pub source: Digest,
}

impl Digests {
    /// The parts that give ids their meaning and differ, by name, with both digests: none where ids mean the same. The decoder may be another
    /// one, and the source is provenance.
    pub fn differences(&self, other: &Self) -> Vec<(&'static str, Digest, Digest)> {
        let parts = [
            ("codebook", self.codebook, other.codebook),
            ("encoder", self.encoder, other.encoder),
        ];
        let differ = parts.into_iter().filter(|(_, own, other)| own != other);
        differ.collect()
    }
}

/// SHA-256 in pieces; the crate's only other way to a [`Digest`].
#[derive(Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_there_and_back() {
        // SHA-256 of nothing (FIPS 180-4 test vector).
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(Digest::of(b"")));
        for bad in [
            "",
            "e3",
            &text[1..],
            &format!("{text}0"),
            &text.replace('e', "g"),
            &"é".repeat(32),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }
}
