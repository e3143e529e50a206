//! What a tokenizer's training is told: a TOML file, a preset, and single values set over them.

mod check;
mod sections;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use vqlc_model::VqganConfig;

use crate::{Error, Result};

pub(crate) use check::{bad, check_counts, check_optimizer, check_run};
pub use sections::{
    CheckpointConfig, DataConfig, DiscriminatorConfig, LossConfig, OptimizerConfig, PerceptualKind,
    QuantizerSection, RunConfig, WarmStartConfig, WatchConfig,
};
pub use vqlc_model::Precision;

/// The training of a tokenizer as data. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerConfig {
    /// Steps, batches, precision, seed.
    pub run: RunConfig,
    /// The pictures.
    pub data: DataConfig,
    /// The network.
    pub model: VqganConfig,
    /// The quantizer and its codebook.
    pub quantizer: QuantizerSection,
    /// How it starts before anything is quantised.
    pub warm_start: WarmStartConfig,
    /// What is minimised.
    pub loss: LossConfig,
    /// The adversary; its loss weight is `loss.gan`.
    pub discriminator: DiscriminatorConfig,
    /// Adam and its schedule.
    pub optimizer: OptimizerConfig,
    /// What is kept.
    pub checkpoint: CheckpointConfig,
    /// What is shown.
    pub watch: WatchConfig,
}

/// Presets by name, each a commented TOML file.
const PRESETS: [(&str, &str); 4] = [
    ("paper-f16", include_str!("../../presets/paper-f16.toml")),
    ("paper-f8", include_str!("../../presets/paper-f8.toml")),
    ("small", include_str!("../../presets/small.toml")),
    ("tiny", include_str!("../../presets/tiny.toml")),
];

/// The text that stands under `name` among those that come with vqlc; `what` they are.
///
/// # Errors
/// [`Error::Config`] for an unknown name.
pub(crate) fn text_of(
    texts: &[(&str, &'static str)],
    what: &str,
    name: &str,
) -> Result<&'static str> {
    let found = texts.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text).ok_or_else(|| {
        let known: Vec<&str> = texts.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        Error::Config(format!("unknown {what} {name:?}; known: {known}"))
    })
}

impl TokenizerConfig {
    /// Names of the presets.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// The commented TOML text of a preset.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown name.
    pub fn preset_text(name: &str) -> Result<&'static str> {
        text_of(&PRESETS, "preset", name)
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

    /// Makes the paths of files and folders absolute, so that a run can be gone on with from another folder.
    ///
    /// # Errors
    /// A current folder that is not known.
    pub fn with_absolute_paths(mut self) -> Result<Self> {
        let data = &mut self.data;
        let paths = [
            &mut data.images,
            &mut data.eval,
            &mut data.eval_weights,
            &mut self.quantizer.codebook,
        ];
        let paths = paths.into_iter().flatten();
        for path in paths.chain(&mut self.loss.perceptual_weights) {
            make_absolute(path)?;
        }
        Ok(self)
    }

    /// The configuration as TOML, every value written out.
    ///
    /// # Errors
    /// None for a checked configuration.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Config(e.to_string()))
    }
}

/// A configuration of TOML text in which the values of `set` (`section.key=value`) are set.
pub(crate) fn from_toml<T: DeserializeOwned>(text: &str, set: &[String]) -> Result<T> {
    let mut table: toml::Table = text
        .parse()
        .map_err(|e: toml::de::Error| Error::Config(e.to_string()))?;
    for assignment in set {
        assign(&mut table, assignment)?;
    }
    table
        .try_into()
        .map_err(|e: toml::de::Error| Error::Config(e.to_string()))
}

/// An error that says which file the configuration is.
pub(crate) fn in_file(path: &Path, error: Error) -> Error {
    match error {
        Error::Config(why) => Error::Config(format!("{}: {why}", path.display())),
        other => other,
    }
}

/// A path that means the same from another folder.
pub(crate) fn make_absolute(path: &mut PathBuf) -> Result<()> {
    *path = std::path::absolute(&*path).map_err(|e| Error::io(path, e))?;
    Ok(())
}

/// Sets one dotted key. A value that is not TOML is text: `data.images=photos` needs no quotes.
fn assign(table: &mut toml::Table, assignment: &str) -> Result<()> {
    let bad = |why: &str| Error::Config(format!("--set {assignment}: {why}"));
    let (key, value) = assignment
        .split_once('=')
        .ok_or_else(|| bad("expected key=value"))?;
    let value = value.trim();
    let value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.into()));
    let (sections, name) = (key.trim().rsplit_once('.'))
        .ok_or_else(|| bad("the key needs its section, such as run.steps"))?;
    let mut section = table;
    for part in sections.split('.') {
        let inner = section
            .entry(part)
            .or_insert_with(|| toml::Table::new().into());
        section = (inner.as_table_mut()).ok_or_else(|| bad("not a section"))?;
    }
    section.insert(name.into(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_parse_and_survive_toml() {
        for name in TokenizerConfig::presets() {
            let text = TokenizerConfig::preset_text(name).unwrap();
            let config =
                TokenizerConfig::parse(text, &[]).unwrap_or_else(|e| panic!("preset {name}: {e}"));
            let again = TokenizerConfig::parse(&config.to_toml().unwrap(), &[]).unwrap();
            assert_eq!(again, config, "{name}");
        }
        assert!(TokenizerConfig::preset_text("huge").is_err());
    }

    #[test]
    fn values_are_set_by_dotted_keys() {
        let text = TokenizerConfig::preset_text("tiny").unwrap();
        let set = ["run.steps=7", "data.images=a b/c", "optimizer.lr=1e-3"].map(String::from);
        let config = TokenizerConfig::parse(text, &set).unwrap();
        assert_eq!(config.run.steps, 7);
        assert_eq!(config.data.images, Some("a b/c".into()));
        assert_eq!(config.optimizer.lr, 1e-3);
    }

    #[test]
    fn paths_become_absolute() {
        let text = TokenizerConfig::preset_text("tiny").unwrap();
        let set = [
            "data.images=photos",
            "loss.perceptual_weights=[\"a\", \"/b\"]",
        ];
        let config = TokenizerConfig::parse(text, &set.map(String::from)).unwrap();
        let config = config.with_absolute_paths().unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(config.data.images, Some(here.join("photos")));
        assert_eq!(
            config.loss.perceptual_weights,
            [here.join("a"), "/b".into()]
        );
        assert_eq!(config.data.eval, None);
    }

    #[test]
    fn wrong_keys_and_values_are_named() {
        let text = TokenizerConfig::preset_text("tiny").unwrap();
        for (set, word) in [
            ("run.stepz=7", "stepz"),
            ("rum.steps=7", "rum"),
            ("run.steps=many", "many"),
            ("steps=7", "section"),
            ("run.steps", "key=value"),
            ("run.batch=0", "run.batch"),
            ("optimizer.lr=-1", "optimizer.lr"),
            ("data.size=100", "data.size"),
            ("loss.gan=nan", "loss.gan"),
        ] {
            let err = TokenizerConfig::parse(text, &[set.into()])
                .unwrap_err()
                .to_string();
            assert!(err.contains(word), "{set}: {err}");
        }
    }
}
