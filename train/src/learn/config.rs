//! What a training on tokens is told.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Kind, ModelSection};
use crate::{
    Error, Result,
    config::{
        OptimizerConfig, RunConfig, bad, check_counts, check_optimizer, check_run, from_toml,
        in_file, make_absolute,
    },
};

/// A training on tokens as data. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnConfig {
    /// Steps, batches, precision, seed, averaged weights.
    pub run: RunConfig,
    /// What it learns from.
    pub data: LearnData,
    /// The network and its loss.
    pub model: ModelSection,
    /// Adam and its schedule; what is added to or scales (biases, norms, vectors of ids and places) does not decay.
    pub optimizer: OptimizerConfig,
    /// What is kept.
    pub checkpoint: KeepConfig,
    /// What is shown.
    pub watch: LearnWatch,
}

/// `[data]`: token files, or for networks on latents a folder of pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnData {
    /// Token files to learn from.
    #[serde(default)]
    pub tokens: Vec<PathBuf>,
    /// Token files to measure on.
    #[serde(default)]
    pub val: Vec<PathBuf>,
    /// In place of `tokens`: pictures whose latents z are computed as they are needed, not quantised (dit, sit, ldm).
    pub images: Option<PathBuf>,
    /// Side of the square crops of `images`, pixels.
    #[serde(default = "usual_size")]
    pub size: usize,
    /// Which view of each picture of a token file an epoch takes.
    pub views: ViewsSection,
    /// Whether classes are learned, where pictures have them.
    pub labels: bool,
    /// The tokenizer's model file, if it is not the embedded one.
    pub tokenizer: Option<PathBuf>,
}

/// Which view of each picture an epoch takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ViewsSection {
    /// One of them, drawn anew for each picture and epoch.
    Drawn,
    /// Always the first.
    First,
}

/// `[checkpoint]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepConfig {
    /// Steps from one to the next.
    pub every: u64,
    /// How many are kept.
    pub keep: usize,
}

/// `[watch]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnWatch {
    /// Steps from one line of metrics to the next.
    pub log_every: u64,
    /// Steps from one measurement on `data.val` to the next, a multiple of `log_every`; 0: only at the end.
    pub val_every: u64,
    /// Steps from one grid of samples to the next, one at the end too; 0 draws none.
    #[serde(default)]
    pub grid_every: u64,
    /// Pictures in a grid.
    #[serde(default = "usual_grid")]
    pub grid_pictures: usize,
}

fn usual_size() -> usize {
    256
}

fn usual_grid() -> usize {
    8
}

/// Presets by kind and name, each a commented TOML file.
const PRESETS: [(Kind, &str, &str); 10] = [
    (
        Kind::Gpt,
        "tiny",
        include_str!("../../presets/gpt-tiny.toml"),
    ),
    (
        Kind::Gpt,
        "paper",
        include_str!("../../presets/gpt-paper.toml"),
    ),
    (
        Kind::Vit,
        "tiny",
        include_str!("../../presets/vit-tiny.toml"),
    ),
    (
        Kind::Vit,
        "paper",
        include_str!("../../presets/vit-paper.toml"),
    ),
    (
        Kind::Dit,
        "tiny",
        include_str!("../../presets/dit-tiny.toml"),
    ),
    (
        Kind::Dit,
        "paper",
        include_str!("../../presets/dit-paper.toml"),
    ),
    (
        Kind::Sit,
        "tiny",
        include_str!("../../presets/sit-tiny.toml"),
    ),
    (
        Kind::Sit,
        "paper",
        include_str!("../../presets/sit-paper.toml"),
    ),
    (
        Kind::Ldm,
        "tiny",
        include_str!("../../presets/ldm-tiny.toml"),
    ),
    (
        Kind::Ldm,
        "paper",
        include_str!("../../presets/ldm-paper.toml"),
    ),
];

impl LearnConfig {
    /// The commented TOML text of a preset.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown name.
    pub fn preset_text(kind: Kind, name: &str) -> Result<&'static str> {
        let mut known = PRESETS.iter().filter(|preset| preset.0 == kind);
        let found = known.clone().find(|preset| preset.1 == name);
        found.map(|preset| preset.2).ok_or_else(|| {
            let first = known.next().map_or("none", |preset| preset.1);
            let names = known.fold(first.to_owned(), |names, preset| names + ", " + preset.1);
            Error::Config(format!("unknown preset {name:?} of {kind}; known: {names}"))
        })
    }

    /// Reads TOML text, sets the values of `set` (`key=value`, the key with its section: `run.steps=1000`) and checks the whole.
    ///
    /// # Errors
    /// [`Error::Config`] names the key.
    pub fn parse(text: &str, set: &[String]) -> Result<Self> {
        let config: Self = from_toml(text, set)?;
        config.check()?;
        Ok(config)
    }

    /// As [`Self::parse`], of a file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`].
    pub fn read(path: &Path, set: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&text, set).map_err(|e| in_file(path, e))
    }

    /// The configuration as TOML, every value written out.
    ///
    /// # Errors
    /// None for a checked configuration.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Config(e.to_string()))
    }

    /// Makes the paths of files and folders absolute, so that a run can be gone on with from another folder.
    ///
    /// # Errors
    /// A current folder that is not known.
    pub fn with_absolute_paths(mut self) -> Result<Self> {
        let data = &mut self.data;
        let paths = data.tokens.iter_mut().chain(&mut data.val);
        let paths = paths.chain(&mut data.images).chain(&mut data.tokenizer);
        for path in paths.chain(self.model.weights_mut()) {
            make_absolute(path)?;
        }
        Ok(self)
    }

    fn check(&self) -> Result<()> {
        let Self {
            run,
            data,
            model,
            optimizer,
            checkpoint,
            watch,
        } = self;
        check_run(run)?;
        check_optimizer(optimizer)?;
        check_counts(&[
            ("data.size", data.size, 1 << 14),
            ("checkpoint.keep", checkpoint.keep, 1 << 20),
            ("watch.grid_pictures", watch.grid_pictures, 256),
        ])?;
        for (key, value) in [
            ("checkpoint.every", checkpoint.every),
            ("watch.log_every", watch.log_every),
        ] {
            if value == 0 {
                return bad(key, "0, expected at least 1".into());
            }
        }
        if !watch.val_every.is_multiple_of(watch.log_every) {
            let why = format!(
                "{}, expected a multiple of watch.log_every {}",
                watch.val_every, watch.log_every
            );
            return bad("watch.val_every", why);
        }
        if data.images.is_some() && !model.kind().takes_latents() {
            let why = format!("given, but {} learns from token files", model.kind());
            return bad("data.images", why);
        }
        if data.images.is_some() && !(data.tokens.is_empty() && data.val.is_empty()) {
            return bad(
                "data.images",
                "given beside token files: name one of them".into(),
            );
        }
        model.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_parse_and_survive_toml() {
        for (kind, name, text) in PRESETS {
            let config = LearnConfig::parse(text, &[]);
            let config = config.unwrap_or_else(|e| panic!("{kind} {name}: {e}"));
            assert_eq!(config.model.kind(), kind);
            let again = LearnConfig::parse(&config.to_toml().unwrap(), &[]).unwrap();
            assert_eq!(again, config, "{kind} {name}");
            assert_eq!(LearnConfig::preset_text(kind, name).unwrap(), text);
        }
        let refused = LearnConfig::preset_text(Kind::Gpt, "huge").unwrap_err();
        assert!(refused.to_string().contains("tiny, paper"), "{refused}");
    }

    #[test]
    fn wrong_values_are_named() {
        for (kind, set, word) in [
            (Kind::Gpt, "model.heads=3", "model.heads"),
            (Kind::Gpt, "model.embedding=drawn", "drawn"),
            (Kind::Gpt, "model.width=100000", "model.width"),
            (Kind::Gpt, "data.images=photos", "data.images"),
            (Kind::Gpt, "watch.val_every=7", "watch.val_every"),
            (Kind::Gpt, "model.class_dropout=2", "model.class_dropout"),
            (Kind::Vit, "model.mixup=-1", "model.mixup"),
            (Kind::Vit, "model.layer_decay=nan", "model.layer_decay"),
            (Kind::Dit, "model.sampling_steps=0", "model.sampling_steps"),
            (Kind::Sit, "model.width=16384", "2^34"),
            (Kind::Ldm, "model.groups=7", "groups"),
            (Kind::Ldm, "model.kind=unet", "unet"),
        ] {
            let text = LearnConfig::preset_text(kind, "paper").unwrap();
            let refused = LearnConfig::parse(text, &[set.into()]).unwrap_err();
            assert!(refused.to_string().contains(word), "{set}: {refused}");
        }
        let text = LearnConfig::preset_text(Kind::Sit, "tiny").unwrap();
        let both = ["data.images=photos", "data.tokens=[\"a.vqt\"]"].map(String::from);
        assert!(LearnConfig::parse(text, &both).is_err());
    }

    #[test]
    fn paths_become_absolute() {
        let text = LearnConfig::preset_text(Kind::Vit, "tiny").unwrap();
        let set = ["data.tokens=[\"a\", \"/b\"]", "model.weights=mae.pth"].map(String::from);
        let config = LearnConfig::parse(text, &set).unwrap();
        let mut config = config.with_absolute_paths().unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(config.data.tokens, [here.join("a"), "/b".into()]);
        assert_eq!(config.model.weights_mut(), Some(&mut here.join("mae.pth")));
    }
}
