//! Where the network runs.

use std::{fmt, str::FromStr};

use candle_core::{DType, Device};
use vqlc_ops::tensor::Order;

use crate::{Error, Result};

/// A device by name: `cpu`, `cuda` (the first GPU) or `cuda:INDEX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU by its index.
    Cuda(usize),
}

impl DeviceSpec {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Device`] when this program was built without CUDA or the GPU cannot be used: there is no silent fallback. So too when
    /// `VQLC_CHANNELS` is set to what it cannot be ([`Order::fastest`]).
    pub fn open(self) -> Result<Device> {
        let unusable = |reason| Error::Device {
            device: self.to_string(),
            reason,
        };
        // Said here once, and not by whichever layer comes first.
        Order::fastest(DType::F32, false).map_err(|error| unusable(error.to_string()))?;
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => open_cuda(index).map_err(unusable),
        }
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Device, String> {
    vqlc_ops::open_gpu(index)
        .map_err(|e| format!("cannot be used ({e}); see `nvidia-smi`, or use --device cpu"))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_index: usize) -> Result<Device, String> {
    Err(
        "this program was built without CUDA; build it with `--features cuda`, or use --device cpu"
            .into(),
    )
}

impl FromStr for DeviceSpec {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let unknown = || format!("unknown device {s:?}: expected cpu, cuda or cuda:INDEX");
        match s.split_once(':') {
            None if s == "cpu" => Ok(Self::Cpu),
            None if s == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for (name, spec) in [
            ("cpu", DeviceSpec::Cpu),
            ("cuda", DeviceSpec::Cuda(0)),
            ("cuda:3", DeviceSpec::Cuda(3)),
        ] {
            assert_eq!(name.parse(), Ok(spec));
        }
        assert_eq!(DeviceSpec::Cuda(3).to_string(), "cuda:3");
        for bad in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "CUDA"] {
            assert!(bad.parse::<DeviceSpec>().is_err(), "{bad}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn no_silent_fallback_without_cuda() {
        let err = DeviceSpec::Cuda(0).open().unwrap_err().to_string();
        assert!(err.contains("built without CUDA"), "{err}");
    }
}
