//! What is to be done, what is done, and the doing of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::Device;
use sha2::{Digest as _, Sha256};
use vqlc_model::digest::hex;

use super::{
    Ablation, CodebookSpec, Table, TableSpec,
    record::{self, Figures, Outcome, Quality, Record, Settings},
    table,
};
use crate::{
    Error, Result, TokenizerConfig,
    backbone::{Backbone, BackboneKind, weights},
    checkpoint::Store,
    codebook::{self, Codebook, DEFAULT_FEATURE_BUDGET, Watch},
    data::Pictures,
    run::{self, Progress},
    trainer::TokenizerTrainer,
};

/// What changes nothing that is measured: threads, memory, and what is kept and shown meanwhile.
const INDIFFERENT: [&str; 7] = [
    "data.workers",
    "data.cache_mib",
    "checkpoint.every",
    "checkpoint.keep",
    "watch.log_every",
    "watch.grid_every",
    "watch.grid_pictures",
];
/// Paths: what lies there counts, not where it lies.
const PATHS: [&str; 5] = [
    "data.images",
    "data.eval",
    "data.eval_weights",
    "quantizer.codebook",
    "loss.perceptual_weights",
];
/// In a run's folder, what it was begun with.
const BEGUN: &str = "row.json";

/// An ablation in its folder.
pub struct Plan {
    out: PathBuf,
    tables: Vec<TableSpec>,
    rows: Vec<Row>,
    protocol: table::Protocol,
}

/// A row: what it is and how far it is.
pub struct Row {
    pub(super) name: String,
    pub(super) set: Vec<String>,
    pub(super) book: Option<Book>,
    pub(super) config: TokenizerConfig,
    pub(super) state: State,
    settings: Settings,
}

/// A codebook that a row starts from.
#[derive(Clone)]
pub struct Book {
    pub(super) name: String,
    images: PathBuf,
    weights: PathBuf,
    backbone: BackboneKind,
    settings: codebook::Settings,
    path: PathBuf,
}

/// How far a row is.
#[derive(Clone, Debug)]
pub enum State {
    /// Nothing is there.
    Open,
    /// A run is there that goes on.
    Begun,
    /// It went wrong; the reason.
    Failed(String),
    /// It is measured.
    Done(Box<Figures>),
    /// What is there was made with other settings; which, and how they differ.
    Other(String),
}

impl Row {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The codebook it starts from.
    pub fn book(&self) -> Option<&Book> {
        self.book.as_ref()
    }

    /// The configuration of its run.
    pub fn config(&self) -> &TokenizerConfig {
        &self.config
    }
}

impl Book {
    /// Its file. The name holds a digest of what it is made with: changed settings are another file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many pictures it is made of.
    ///
    /// # Errors
    /// As [`Pictures::scan`].
    pub fn pictures(&self) -> Result<u64> {
        Ok(Pictures::scan(&self.images, true)?.count() as u64)
    }

    /// Makes the file; `None` when told to stop, then it goes on from there the next time.
    ///
    /// # Errors
    /// As [`codebook::make`].
    pub fn make(&self, device: &Device, watch: &dyn Watch) -> Result<Option<()>> {
        let pictures = Pictures::scan(&self.images, true)?;
        let backbone = Backbone::open(self.backbone, &self.weights, device)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let made = codebook::make(
            &pictures,
            &backbone,
            &self.settings,
            &self.path,
            true,
            watch,
        )?;
        Ok(made.map(drop))
    }
}

impl Plan {
    /// Looks what of `ablation` is done in the folder `out`, which need not be there. Nothing is written.
    ///
    /// # Errors
    /// [`Error::Config`] for what no row can be trained with; folders and files that are not there; records that are none.
    pub fn new(ablation: &Ablation, out: &Path) -> Result<Self> {
        let out = std::path::absolute(out).map_err(|e| Error::io(out, e))?;
        let mut digests = Digests::default();
        let mut rows = Vec::new();
        for name in ablation.order() {
            rows.push(row(ablation, name, &out, &mut digests)?);
        }
        Ok(Self {
            protocol: protocol(ablation, &mut digests)?,
            tables: ablation.tables.clone(),
            out,
            rows,
        })
    }

    /// The rows, in the order in which they are done.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Forgets what row `index` came to and removes its run, to do it again.
    ///
    /// # Errors
    /// A folder that is no run of an ablation, which is not removed; the system's.
    pub fn forget(&mut self, index: usize) -> Result<()> {
        let row = &mut self.rows[index];
        let (folder, file) = places(&self.out, &row.name);
        if folder.exists() {
            if !folder.join(BEGUN).exists() {
                return Err(not_ours(&folder));
            }
            fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        }
        if file.exists() {
            fs::remove_file(&file).map_err(|e| Error::io(&file, e))?;
        }
        row.state = State::Open;
        Ok(())
    }

    /// Trains and measures row `index`, whose codebook is there; goes on from its newest checkpoint where there is one. What it came to
    /// before is forgotten. `None` when it was asked to stop.
    ///
    /// # Errors
    /// What the run reports; [`Self::fail`] records it.
    pub fn train(
        &mut self,
        index: usize,
        device: &Device,
        progress: &mut dyn Progress,
    ) -> Result<Option<()>> {
        let row = &mut self.rows[index];
        let (folder, file) = places(&self.out, &row.name);
        if folder.exists() && !folder.join(BEGUN).exists() {
            return Err(not_ours(&folder));
        }
        fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        if file.exists() {
            fs::remove_file(&file).map_err(|e| Error::io(&file, e))?;
        }
        record::write(&folder.join(BEGUN), &row.settings)?;
        row.state = State::Begun;
        let checkpoints = Store::new(&folder.join("checkpoints"), 1);
        let resume = checkpoints.last()?.is_some();
        let mut trainer =
            TokenizerTrainer::new(row.config.clone(), &folder, device, resume, progress)?;
        if trainer.run(progress)? == run::Outcome::Stopped {
            return Ok(None);
        }
        let Some(finished) = trainer.finish(progress)? else {
            return Ok(None);
        };
        let book = row.book.as_ref().map(|book| Codebook::read(&book.path));
        let figures = Figures {
            date: record::today(),
            version: env!("CARGO_PKG_VERSION").into(),
            steps: finished.steps,
            codebook: book.transpose()?.map(|book| hex(&book.digest())),
            usage: finished.usage,
            quality: finished.evaluation.as_ref().map(Quality::of),
            unreadable: trainer.unreadable(),
        };
        let record = Record {
            settings: row.settings.clone(),
            outcome: Outcome::Done(figures.clone()),
        };
        record::write(&file, &record)?;
        row.state = State::Done(Box::new(figures));
        Ok(Some(()))
    }

    /// Records that row `index` went wrong.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn fail(&mut self, index: usize, reason: &str) -> Result<()> {
        let row = &mut self.rows[index];
        row.state = State::Failed(reason.into());
        let record = Record {
            settings: row.settings.clone(),
            outcome: Outcome::Failed(reason.into()),
        };
        fs::create_dir_all(&self.out).map_err(|e| Error::io(&self.out, e))?;
        record::write(&places(&self.out, &row.name).1, &record)
    }

    /// What there is so far. `command` is what does this ablation: a row's own command is made of it.
    pub fn table(&self, command: &str) -> Table {
        Table::new(&self.protocol, &self.tables, &self.rows, command)
    }

    /// Writes `table.md` and `table.json` in the folder.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn write(&self, table: &Table) -> Result<()> {
        fs::create_dir_all(&self.out).map_err(|e| Error::io(&self.out, e))?;
        crate::files::write_whole(&self.out.join("table.md"), table.markdown().as_bytes())?;
        record::write(&self.out.join("table.json"), table)
    }
}

/// A row's folder and its result.
fn places(out: &Path, name: &str) -> (PathBuf, PathBuf) {
    (out.join(name), out.join(format!("{name}.json")))
}

fn not_ours(folder: &Path) -> Error {
    let why = "is there and is no row of an ablation; move it away, or name another folder";
    Error::malformed(folder, why)
}

fn row(ablation: &Ablation, name: &str, out: &Path, digests: &mut Digests) -> Result<Row> {
    let spec = &ablation.rows[name];
    let at = |e: Error| match e {
        Error::Config(why) => Error::Config(format!("rows.{name}: {why}")),
        other => other,
    };
    let book = (spec.codebook.as_ref())
        .map(|book| planned(ablation, book, out, digests))
        .transpose()?;
    let mut set = spec.set.clone();
    if let Some((book, _)) = &book {
        set.push(format!("model.n_codes={}", book.settings.codes));
        set.push(format!("model.code_dim={}", book.backbone.card().dim));
    }
    let mut config = ablation.shared(&set).map_err(at)?;
    config.data.images = Some(images(ablation)?.into());
    config.data.eval = ablation.data.eval.clone();
    config.data.eval_weights = ablation.data.weights.clone();
    config.quantizer.codebook = book.as_ref().map(|(book, _)| book.path.clone());
    let config = config.with_absolute_paths()?;
    let mut settings = flat(&config)?;
    if let Some((_, recipe)) = &book {
        settings.extend(recipe.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    settings.insert(
        "pictures learnt from".into(),
        digests.folder(images(ablation)?)?.1,
    );
    if let Some(eval) = &config.data.eval {
        settings.insert("pictures measured on".into(), digests.folder(eval)?.1);
    }
    if let Some(file) = &config.data.eval_weights {
        settings.insert("weights of the judge".into(), digests.file(file)?);
    }
    for (number, file) in config.loss.perceptual_weights.iter().enumerate() {
        let key = format!("weights of the perceptual loss, {}", number + 1);
        settings.insert(key, digests.file(file)?);
    }
    Ok(Row {
        state: state(out, name, &settings)?,
        name: name.into(),
        set: spec.set.clone(),
        book: book.map(|(book, _)| book),
        config,
        settings,
    })
}

/// What is there of a row.
fn state(out: &Path, name: &str, settings: &Settings) -> Result<State> {
    let (folder, file) = places(out, name);
    let record: Option<Record> = record::read(&file)?;
    let begun: Option<Settings> = record::read(&folder.join(BEGUN))?;
    let made_with = record.as_ref().map(|record| &record.settings);
    for found in [made_with, begun.as_ref()].into_iter().flatten() {
        if let Some(difference) = difference(found, settings) {
            return Ok(State::Other(difference));
        }
    }
    Ok(match record.map(|record| record.outcome) {
        Some(Outcome::Done(figures)) => State::Done(Box::new(figures)),
        Some(Outcome::Failed(why)) => State::Failed(why),
        None if begun.is_some() => State::Begun,
        None if folder.exists() => return Err(not_ours(&folder)),
        None => State::Open,
    })
}

/// How settings differ, the first three of all differences; `None` where they do not.
fn difference(then: &Settings, now: &Settings) -> Option<String> {
    let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let short = |value: Option<&String>| match value {
        // A digest says no more when it is whole.
        Some(value) if value.len() == 64 => value[..12].to_owned(),
        Some(value) => value.clone(),
        None => "none".to_owned(),
    };
    let all: Vec<String> = keys
        .into_iter()
        .filter(|key| then.get(*key) != now.get(*key))
        .map(|key| {
            format!(
                "{key} was {}, is {}",
                short(then.get(key)),
                short(now.get(key))
            )
        })
        .collect();
    let more = all.len().saturating_sub(3);
    let mut text = all.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 {
        text += &format!("; and {more} more");
    }
    (!all.is_empty()).then_some(text)
}

/// A configuration's values by `section.key`, without what changes nothing and without paths.
fn flat(config: &TokenizerConfig) -> Result<Settings> {
    let told = |e: toml::ser::Error| Error::Config(e.to_string());
    let sections = toml::Table::try_from(config).map_err(told)?;
    let values = sections.iter().flat_map(|(section, values)| {
        let values = values.as_table().into_iter().flatten();
        values.map(move |(key, value)| (format!("{section}.{key}"), value.to_string()))
    });
    let counts = |key: &str| !INDIFFERENT.contains(&key) && !PATHS.contains(&key);
    Ok(values.filter(|(key, _)| counts(key)).collect())
}

/// A codebook, and what decides its entries.
fn planned(
    ablation: &Ablation,
    name: &str,
    out: &Path,
    digests: &mut Digests,
) -> Result<(Book, Settings)> {
    let spec: &CodebookSpec = &ablation.codebooks[name];
    let missing = |what: &str| Error::Config(format!("codebooks.{name}: {what}"));
    let folder = match &spec.images {
        Some(folder) => folder,
        None => images(ablation)?,
    };
    let judge = (ablation.data.weights.as_ref())
        .filter(|_| spec.backbone == BackboneKind::EfficientNetLite0);
    let weights = (spec.weights.as_ref().or(judge)).ok_or_else(|| {
        missing(&format!(
            "weights is missing: the file with those of {} (or data.weights, for EfficientNet-Lite0's)",
            spec.backbone
        ))
    })?;
    let card = spec.backbone.card();
    let settings = codebook::Settings {
        codes: spec.codes,
        select: spec.select,
        per_class: false,
        pool: spec.pool,
        seed: spec.seed,
        iterations: spec.iterations,
        views: spec.views,
        feature_budget: spec.features.map_or(DEFAULT_FEATURE_BUDGET, |features| {
            u64::from(features) * 2 * card.dim as u64
        }),
    };
    let text = [
        ("codes", spec.codes.to_string()),
        ("select", format!("{:?}", spec.select).to_lowercase()),
        ("iterations", spec.iterations.to_string()),
        ("views", spec.views.to_string()),
        ("pool", spec.pool.unwrap_or(card.pool).to_string()),
        (
            "features",
            spec.features.map_or("all".into(), |n| n.to_string()),
        ),
        ("seed", spec.seed.to_string()),
        ("backbone", card.name.into()),
        ("weights", digests.file(weights)?),
        ("pictures", digests.folder(folder)?.1),
    ];
    let recipe: Settings = text
        .into_iter()
        .map(|(key, value)| (format!("codebook's {key}"), value))
        .collect();
    let told = recipe.iter().map(|(key, value)| format!("{key}={value}\n"));
    let digest = hex(&Sha256::digest(told.collect::<String>()).into());
    let file = format!("{name}-{}.safetensors", &digest[..8]);
    let book = Book {
        name: name.into(),
        images: folder.into(),
        weights: weights.clone(),
        backbone: spec.backbone,
        settings,
        path: out.join("codebooks").join(file),
    };
    Ok((book, recipe))
}

fn images(ablation: &Ablation) -> Result<&Path> {
    ablation.data.images.as_deref().ok_or_else(|| {
        Error::Config("data.images (--images) is missing: name the folder to learn from".into())
    })
}

fn protocol(ablation: &Ablation, digests: &mut Digests) -> Result<table::Protocol> {
    let data = &ablation.data;
    Ok(table::Protocol {
        preset: ablation.preset.clone(),
        shared: ablation.shared(&[])?,
        images: digests.folder(images(ablation)?)?,
        eval: (data.eval.as_ref())
            .map(|folder| digests.folder(folder))
            .transpose()?,
        weights: (data.weights.as_ref())
            .map(|file| digests.file(file))
            .transpose()?,
    })
}

/// Digests of folders and files, each taken once.
#[derive(Default)]
struct Digests {
    folders: BTreeMap<PathBuf, (u64, String)>,
    files: BTreeMap<PathBuf, String>,
}

impl Digests {
    /// Pictures in a folder, and the digest of their names and lengths.
    fn folder(&mut self, path: &Path) -> Result<(u64, String)> {
        if let Some(found) = self.folders.get(path) {
            return Ok(found.clone());
        }
        let pictures = Pictures::scan(path, true)?;
        let found = (pictures.count() as u64, hex(&pictures.digest()));
        self.folders.insert(path.into(), found.clone());
        Ok(found)
    }

    fn file(&mut self, path: &Path) -> Result<String> {
        if let Some(found) = self.files.get(path) {
            return Ok(found.clone());
        }
        let found = weights::digest(path)?;
        self.files.insert(path.into(), found.clone());
        Ok(found)
    }
}
