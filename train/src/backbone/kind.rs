//! The backbones there are.

use std::{fmt, str::FromStr};

/// A pretrained vision encoder whose patch features can become a codebook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackboneKind {
    /// EfficientNet-Lite0.
    EfficientNetLite0,
}

/// What is taken from a backbone, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// Name on the command line and in provenance.
    pub name: &'static str,
    /// Side of the square input in pixels.
    pub input: u32,
    /// Patches along a side.
    pub grid: usize,
    /// Side of the square that patches are averaged over unless asked otherwise.
    pub pool: usize,
    /// Numbers in a feature.
    pub dim: usize,
    /// Mean of each colour, of values in 0..255.
    pub mean: [f64; 3],
    /// What values are divided by after that.
    pub deviation: [f64; 3],
}

impl BackboneKind {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::EfficientNetLite0];

    /// Its row of the table in [`crate::backbone`].
    pub fn card(self) -> Card {
        match self {
            Self::EfficientNetLite0 => Card {
                name: "efficientnet-lite0",
                input: 256,
                grid: 16,
                pool: 1,
                dim: 112,
                mean: [127.0; 3],
                deviation: [128.0; 3],
            },
        }
    }
}

impl fmt::Display for BackboneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.card().name)
    }
}

impl FromStr for BackboneKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(|kind| kind.card().name).join(", ");
        Self::ALL
            .into_iter()
            .find(|kind| kind.card().name == text)
            .ok_or_else(|| format!("unknown backbone {text:?}: expected one of {}", names()))
    }
}
