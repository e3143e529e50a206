//! In which number format a network multiplies.

use std::{fmt, str::FromStr};

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How products are taken. Parameters, the search for the nearest entry and losses are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in f32: on CUDA, and for training on processors with AMX.
    Bf16,
}

impl Precision {
    /// The dtype that layers multiply in.
    #[must_use]
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// That a tokenizer can run so on `device`. On the CPU there is f32 only: rounding to bf16 would change ids on the machines
    /// that can and not on the others.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn check(self, device: &Device) -> Result<()> {
        if self == Self::F32 || device.is_cuda() {
            return Ok(());
        }
        Err(Error::Device {
            device: "cpu".into(),
            reason: "encodes and decodes in f32 only; use --device cuda, or leave out --precision"
                .into(),
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        match s {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("unknown precision {s:?}: expected f32 or bf16")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for precision in [Precision::F32, Precision::Bf16] {
            let name = precision.to_string();
            assert_eq!(name.parse(), Ok(precision));
            let json = serde_json::to_string(&precision).unwrap();
            assert_eq!(json, format!("{name:?}"));
        }
        assert!("f16".parse::<Precision>().is_err());
    }

    #[test]
    fn a_processor_takes_f32_only() {
        assert!(Precision::F32.check(&Device::Cpu).is_ok());
        let err = Precision::Bf16.check(&Device::Cpu).unwrap_err().to_string();
        assert!(err.contains("f32 only"), "{err}");
    }
}
