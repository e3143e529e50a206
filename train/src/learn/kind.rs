//! What can be trained on tokens.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of network that learn from tokens (paper section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A transformer that continues ids.
    Gpt,
    /// A transformer that tells classes.
    Vit,
    /// A transformer that takes noise from latents (Peebles and Xie 2023).
    Dit,
    /// The same on straight paths (Ma et al. 2024).
    Sit,
    /// A UNet that takes noise from latents (Rombach et al. 2022).
    Ldm,
}

impl Kind {
    /// Whether it learns on latents, which ids or pictures can give.
    pub fn takes_latents(self) -> bool {
        matches!(self, Self::Dit | Self::Sit | Self::Ldm)
    }

    /// Its name in commands and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt => "gpt",
            Self::Vit => "vit",
            Self::Dit => "dit",
            Self::Sit => "sit",
            Self::Ldm => "ldm",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
