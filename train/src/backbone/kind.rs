//! The backbones there are.

use std::{fmt, str::FromStr};

/// A pretrained vision encoder whose patch features can become a codebook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackboneKind {
    /// CLIP's vision transformer L/14.
    ClipVitL14,
    /// CLIP's vision transformer B/16.
    ClipVitB16,
    /// CLIP's ResNet-50.
    ClipRn50,
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
    pub const ALL: [Self; 4] = [
        Self::ClipVitL14,
        Self::ClipVitB16,
        Self::ClipRn50,
        Self::EfficientNetLite0,
    ];

    /// Its row of the table in [`crate::backbone`].
    pub fn card(self) -> Card {
        let clip = |name, grid, pool, dim| Card {
            name,
            input: 224,
            grid,
            pool,
            dim,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73].map(|v| 255.0 * v),
            deviation: [0.268_629_54, 0.261_302_58, 0.275_777_11].map(|v| 255.0 * v),
        };
        match self {
            Self::ClipVitL14 => clip("clip-vit-l14", 16, 4, 768),
            Self::ClipVitB16 => clip("clip-vit-b16", 14, 2, 512),
            Self::ClipRn50 => clip("clip-rn50", 7, 1, 2048),
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
