//! What an ablation is told: one TOML file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use serde::{Deserialize, Deserializer, de};

use crate::{
    Error, Result, TokenizerConfig,
    backbone::BackboneKind,
    codebook::Select,
    config::{from_toml, in_file, text_of},
};

/// Ablations by name, each a commented TOML file.
const PRESETS: [(&str, &str); 2] = [
    (
        "tables6-10",
        include_str!("../../presets/ablate-tables6-10.toml"),
    ),
    ("table2", include_str!("../../presets/ablate-table2.toml")),
];

/// Names in the folder that are no rows'.
const TAKEN: [&str; 2] = ["table", "codebooks"];

/// An ablation as data. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// The preset of a tokenizer's training that every row starts from.
    pub preset: String,
    /// What all rows change in it: sections with keys, as in a tokenizer's configuration.
    #[serde(default)]
    pub settings: BTreeMap<String, toml::Table>,
    /// The pictures.
    #[serde(default)]
    pub data: FolderSpec,
    /// Codebooks by name.
    #[serde(default)]
    pub codebooks: BTreeMap<String, CodebookSpec>,
    /// Rows by name.
    pub rows: BTreeMap<String, RowSpec>,
    /// Tables, in the order in which they are shown.
    #[serde(rename = "table")]
    pub tables: Vec<TableSpec>,
    /// Paths in settings are counted from here.
    #[serde(skip)]
    folder: PathBuf,
}

/// `[data]`: the same for all rows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSpec {
    /// The folder to learn from.
    pub images: Option<PathBuf>,
    /// The folder to measure on.
    pub eval: Option<PathBuf>,
    /// EfficientNet-Lite0's weights: the judge of what comes back, and the encoder that codebooks are made with.
    pub weights: Option<PathBuf>,
}

/// `[codebooks.NAME]`: a codebook that rows start from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodebookSpec {
    /// The folder it is made of; none for the one that is learnt from.
    pub images: Option<PathBuf>,
    /// Number of entries.
    pub codes: usize,
    /// How they are chosen.
    #[serde(default)]
    pub select: Select,
    /// Most iterations of K-means.
    #[serde(default = "ten")]
    pub iterations: u32,
    /// Views of each picture.
    #[serde(default = "one")]
    pub views: u32,
    /// Most features that are kept, a seeded sample of all; none for as many as fit into
    /// [`DEFAULT_FEATURE_BUDGET`](crate::codebook::DEFAULT_FEATURE_BUDGET).
    pub features: Option<u32>,
    /// Side of the square that patches are averaged over; none for the backbone's own.
    pub pool: Option<usize>,
    /// The encoder.
    #[serde(default = "lite", deserialize_with = "backbone")]
    pub backbone: BackboneKind,
    /// Its weights; none for `data.weights`, where that is its network.
    pub weights: Option<PathBuf>,
    /// What it is drawn from.
    #[serde(default)]
    pub seed: u64,
}

fn ten() -> u32 {
    10
}

fn one() -> u32 {
    1
}

fn lite() -> BackboneKind {
    BackboneKind::EfficientNetLite0
}

fn backbone<'de, D: Deserializer<'de>>(from: D) -> Result<BackboneKind, D::Error> {
    BackboneKind::from_str(&String::deserialize(from)?).map_err(de::Error::custom)
}

/// `[rows.NAME]`: what is trained.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowSpec {
    /// The codebook it starts from; without one entries are drawn as the quantizer draws them, for lc from a normal distribution.
    pub codebook: Option<String>,
    /// What this row alone changes, each `section.key=value`.
    #[serde(default)]
    pub set: Vec<String>,
}

/// `[[table]]`: which rows are compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// Its number or name.
    pub name: String,
    /// What it is about.
    pub title: String,
    /// Names of its rows.
    pub rows: Vec<String>,
}

impl Ablation {
    /// Names of the ablations that come with vqlc.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// The commented TOML text of one of them.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown name.
    pub fn preset_text(name: &str) -> Result<&'static str> {
        text_of(&PRESETS, "ablation", name)
    }

    /// Reads a TOML file in which the values of `set` (`data.images=photos`, `settings.run.steps=100`) are set. Its paths are counted from
    /// its folder.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Config`] names the file and the key.
    pub fn read(path: &Path, set: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let path = std::path::absolute(path).map_err(|e| Error::io(path, e))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        Self::parse(&text, set, folder).map_err(|e| in_file(&path, e))
    }

    /// As [`Self::read`], of text; paths are counted from `folder`.
    ///
    /// # Errors
    /// [`Error::Config`] names the key.
    pub fn parse(text: &str, set: &[String], folder: &Path) -> Result<Self> {
        let mut ablation: Self = from_toml(text, set)?;
        ablation.check()?;
        let data = &mut ablation.data;
        let paths = [&mut data.images, &mut data.eval, &mut data.weights];
        let books = ablation.codebooks.values_mut();
        let more = books.flat_map(|book| [&mut book.images, &mut book.weights]);
        for path in paths.into_iter().chain(more).flatten() {
            *path = folder.join(&*path);
        }
        ablation.folder = folder.into();
        Ok(ablation)
    }

    /// Names of the rows, in the order in which tables mention them.
    pub fn order(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.tables.iter().flat_map(|table| &table.rows) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The configuration that all rows share, without its folders.
    ///
    /// # Errors
    /// [`Error::Config`] names the key.
    pub fn shared(&self, more: &[String]) -> Result<TokenizerConfig> {
        let mut set = Vec::new();
        for (section, values) in &self.settings {
            for (key, value) in values {
                set.push(format!("{section}.{key}={value}"));
            }
        }
        set.extend_from_slice(more);
        let mut config = TokenizerConfig::parse(TokenizerConfig::preset_text(&self.preset)?, &set)?;
        for path in &mut config.loss.perceptual_weights {
            *path = self.folder.join(&*path);
        }
        Ok(config)
    }

    /// The configuration of a row, without its folders and its codebook.
    ///
    /// # Errors
    /// [`Error::Config`] names the row and the key.
    ///
    /// # Panics
    /// If there is no row of that name.
    pub fn config(&self, row: &str) -> Result<TokenizerConfig> {
        let spec = &self.rows[row];
        let mut set = spec.set.clone();
        if let Some(book) = (spec.codebook.as_ref()).map(|book| &self.codebooks[book]) {
            set.push(format!("model.n_codes={}", book.codes));
            set.push(format!("model.code_dim={}", book.backbone.card().dim));
        }
        self.shared(&set).map_err(|e| match e {
            Error::Config(why) => Error::Config(format!("rows.{row}: {why}")),
            other => other,
        })
    }

    fn check(&self) -> Result<()> {
        let refused = |why: String| Err(Error::Config(why));
        let names = self.rows.keys().chain(self.codebooks.keys());
        for name in names {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || !name.chars().all(plain) || TAKEN.contains(&name.as_str()) {
                return refused(format!(
                    "the name {name:?}: expected letters, digits, - and _, and none of {}",
                    TAKEN.join(", ")
                ));
            }
        }
        for table in &self.tables {
            let unknown = table.rows.iter().find(|row| !self.rows.contains_key(*row));
            if let Some(row) = unknown {
                return refused(format!("table {:?} names no row {row:?}", table.name));
            }
        }
        let shown = self.order();
        if let Some(row) = self.rows.keys().find(|row| !shown.contains(&row.as_str())) {
            return refused(format!("rows.{row} stands in no table"));
        }
        if shown.is_empty() {
            return refused("no table has a row".into());
        }
        for (name, row) in &self.rows {
            let own = (row.codebook.as_ref()).filter(|book| !self.codebooks.contains_key(*book));
            if let Some(book) = own {
                return refused(format!("rows.{name}: there is no codebooks.{book}"));
            }
        }
        self.check_settings()
    }

    /// Folders and codebooks have places of their own, where rows can be told apart by what is in them.
    fn check_settings(&self) -> Result<()> {
        const ELSEWHERE: [(&str, &str); 4] = [
            ("data.images", "data.images"),
            ("data.eval", "data.eval"),
            ("data.eval_weights", "data.weights"),
            ("quantizer.codebook", "codebooks.NAME and a row's codebook"),
        ];
        let shared = self.settings.iter().flat_map(|(section, values)| {
            let of = move |key: &String| ("settings".to_owned(), format!("{section}.{key}"));
            values.keys().map(of)
        });
        let own = self.rows.iter().flat_map(|(name, row)| {
            let of = move |text: &String| (format!("rows.{name}"), key_of(text));
            row.set.iter().map(of)
        });
        for (place, key) in shared.chain(own) {
            if let Some((_, where_to)) = ELSEWHERE.iter().find(|(known, _)| *known == key) {
                let why = format!("{place}: {key} is told by {where_to}");
                return Err(Error::Config(why));
            }
        }
        for (name, row) in &self.rows {
            let mut keys = row.set.iter().map(|text| key_of(text));
            let sizes = |key: &String| key == "model.n_codes" || key == "model.code_dim";
            if let (Some(book), Some(key)) = (&row.codebook, keys.find(sizes)) {
                let why = format!("rows.{name}: {key} is that of its codebook, codebooks.{book}");
                return Err(Error::Config(why));
            }
        }
        Ok(())
    }
}

/// The key of `section.key=value`.
fn key_of(text: &str) -> String {
    text.split('=').next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
preset = "tiny"
[settings]
run.steps = 5
model.ch_mult = [1, 1, 2, 2, 2]
[data]
images = "photos"
weights = "/w"
[codebooks.centres]
codes = 16
[codebooks.drawn]
codes = 16
select = "random"
images = "others"
backbone = "clip-rn50"
[rows.base]
codebook = "centres"
[rows.normal]
set = ["run.seed=1", "model.n_codes=16"]
[[table]]
name = "6"
title = "starts"
rows = ["normal", "base"]
[[table]]
name = "7"
title = "sizes"
rows = ["base"]
"#;

    fn parse(text: &str) -> Result<Ablation> {
        Ablation::parse(text, &[], Path::new("/here"))
    }

    #[test]
    fn a_file_is_read_with_its_paths_order_and_settings() {
        let ablation = parse(SMALL).unwrap();
        assert_eq!(ablation.order(), ["normal", "base"]);
        assert_eq!(ablation.data.images, Some("/here/photos".into()));
        assert_eq!(ablation.data.weights, Some("/w".into()));
        let drawn = &ablation.codebooks["drawn"];
        assert_eq!(drawn.images, Some("/here/others".into()));
        assert_eq!(
            (drawn.select, drawn.backbone),
            (Select::Random, BackboneKind::ClipRn50)
        );
        let config = ablation.shared(&ablation.rows["normal"].set).unwrap();
        assert_eq!((config.run.steps, config.run.seed), (5, 1));
        assert_eq!(config.model.ch_mult, [1, 1, 2, 2, 2]);
    }

    #[test]
    fn single_values_are_set_at_any_depth() {
        let set = [
            "data.images=/p",
            "settings.run.steps=9",
            "codebooks.drawn.codes=3",
        ];
        let ablation = Ablation::parse(SMALL, &set.map(String::from), Path::new("/here")).unwrap();
        assert_eq!(ablation.data.images, Some("/p".into()));
        assert_eq!(ablation.codebooks["drawn"].codes, 3);
        assert_eq!(ablation.shared(&[]).unwrap().run.steps, 9);
    }

    #[test]
    fn paths_in_settings_are_counted_from_the_file_too() {
        let paths = "run.steps = 5\nloss.perceptual_weights = [\"w.pth\", \"/v.pth\"]";
        let ablation = parse(&SMALL.replace("run.steps = 5", paths)).unwrap();
        let config = ablation.config("base").unwrap();
        let expected: [PathBuf; 2] = ["/here/w.pth".into(), "/v.pth".into()];
        assert_eq!(config.loss.perceptual_weights, expected);
        let card = BackboneKind::EfficientNetLite0.card();
        assert_eq!(
            (config.model.n_codes, config.model.code_dim),
            (16, card.dim)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, word) in [
            ("codes = 16", "codez = 16", "codez"),
            ("[data]", "[date]", "date"),
            ("\"clip-rn50\"", "\"clip\"", "efficientnet-lite0"),
            ("[rows.base]", "[rows.table]", "\"table\""),
            ("[rows.base]", "[rows.\"a/b\"]", "a/b"),
            ("codebook = \"centres\"", "codebook = \"none\"", "none"),
            ("rows = [\"base\"]", "rows = [\"bass\"]", "bass"),
            ("\"normal\", ", "", "rows.normal stands in no table"),
            (
                "run.seed=1",
                "data.images=x",
                "rows.normal: data.images is told by",
            ),
            (
                "run.steps = 5",
                "quantizer.codebook = \"x\"",
                "settings: quantizer.codebook",
            ),
            ("select = \"random\"", "select = \"best\"", "best"),
            (
                "codebook = \"centres\"",
                "codebook = \"centres\"\nset = [\"model.n_codes=8\"]",
                "rows.base: model.n_codes is that of its codebook",
            ),
        ] {
            assert!(SMALL.contains(from), "{from}");
            let error = parse(&SMALL.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(word), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn presets_parse() {
        for name in Ablation::presets() {
            let ablation = parse(Ablation::preset_text(name).unwrap())
                .unwrap_or_else(|e| panic!("preset {name}: {e}"));
            for (row, spec) in &ablation.rows {
                ablation.config(row).unwrap_or_else(|e| panic!("{e}"));
                assert!(spec.codebook.is_some() || !spec.set.is_empty());
            }
        }
        assert!(Ablation::preset_text("table3").is_err());
    }
}
