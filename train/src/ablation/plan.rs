//! What is to be done, what is done, and the doing of it.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use candle_core::Device;
use vqlc_model::DeviceSpec;

use super::{
    Ablation, Table, TableSpec,
    book::{Book, planned},
    record::{self, Figures, Outcome, Quality, Record, Settings},
    settings::{DEVICE, Digests, ENTRIES, book_digest, difference, flat},
    table,
};
use crate::{
    Error, Result, TokenizerConfig,
    checkpoint::Store,
    run::{self, Progress},
    trainer::TokenizerTrainer,
};

/// In a run's folder, what it was begun with.
const BEGUN: &str = "row.json";
/// In the ablation's folder, what says that one is at work there. No row's name has a dot.
const LOCK: &str = "ablate.lock";

/// An ablation in its folder.
pub struct Plan {
    out: PathBuf,
    tables: Vec<TableSpec>,
    rows: Vec<Row>,
    protocol: table::Protocol,
    /// Held until the end.
    lock: Option<File>,
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
    /// What is there is no row, or cannot be read; why.
    Foreign(String),
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

    fn look(&mut self, out: &Path) {
        self.state = state(out, &self.name, &self.settings);
    }
}

impl Plan {
    /// Looks what of `ablation`, done on `device`, is there in the folder `out`, which itself need not be. Nothing is written.
    ///
    /// # Errors
    /// [`Error::Config`] for what no row can be trained with; folders and files that are not there.
    pub fn new(ablation: &Ablation, out: &Path, device: DeviceSpec) -> Result<Self> {
        let out = std::path::absolute(out).map_err(|e| Error::io(out, e))?;
        let device = device.to_string();
        // Which one of several GPUs decides nothing.
        let device = device.split(':').next().unwrap_or_default();
        let mut digests = Digests::default();
        let mut rows = Vec::new();
        for name in ablation.order() {
            rows.push(row(ablation, name, &out, device, &mut digests)?);
        }
        Ok(Self {
            protocol: protocol(ablation, device, &mut digests)?,
            tables: ablation.tables.clone(),
            out,
            rows,
            lock: None,
        })
    }

    /// Takes the folder, which is made, for this process until it ends, and looks again what is done there.
    ///
    /// # Errors
    /// Another process has it; the system's.
    pub fn lock(&mut self) -> Result<()> {
        fs::create_dir_all(&self.out).map_err(|e| Error::io(&self.out, e))?;
        let path = self.out.join(LOCK);
        let file = File::create(&path).map_err(|e| Error::io(&path, e))?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(TryLockError::WouldBlock) => {
                let why =
                    "another `vqlc ablate` works here; wait for its end, or name another --out";
                return Err(Error::malformed(&self.out, why));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&path, e)),
        }
        for row in &mut self.rows {
            row.look(&self.out);
        }
        Ok(())
    }

    /// The rows, in the order in which they are done.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether row `index` goes on from a checkpoint when it is trained.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn goes_on(&self, index: usize) -> Result<bool> {
        let row = &self.rows[index];
        let (folder, _) = places(&self.out, &row.name);
        let begun = matches!(row.state, State::Begun | State::Failed(_));
        Ok(begun && checkpoints(&folder).last()?.is_some())
    }

    /// Forgets what row `index` came to and removes its run, to do it again.
    ///
    /// # Errors
    /// What is no run of an ablation, which is not removed; the system's.
    pub fn forget(&mut self, index: usize) -> Result<()> {
        let row = &mut self.rows[index];
        let (folder, file) = places(&self.out, &row.name);
        let begun = folder.join(BEGUN);
        if occupied(&folder) {
            return Err(not_ours(&folder));
        }
        if let (State::Foreign(_), false) = (&row.state, begun.exists()) {
            return Err(not_ours(&file));
        }
        // In this order a process that is killed leaves a row that was begun.
        remove(&file)?;
        if folder.exists() {
            clear(&folder)?;
            remove(&begun)?;
            fs::remove_dir(&folder).map_err(|e| Error::io(&folder, e))?;
        }
        row.state = State::Open;
        Ok(())
    }

    /// Trains and measures row `index`, whose codebook is there; goes on from its newest checkpoint where there is one. What it came to
    /// before is forgotten. `None` when it was asked to stop.
    ///
    /// # Errors
    /// What is there is another row's, or no row; what the run reports; [`Self::fail`] records it.
    pub fn train(
        &mut self,
        index: usize,
        device: &Device,
        progress: &mut dyn Progress,
    ) -> Result<Option<()>> {
        self.look_at_book(index)?;
        let resume = self.goes_on(index)?;
        let row = &mut self.rows[index];
        let (folder, file) = places(&self.out, &row.name);
        match &row.state {
            State::Other(how) => {
                let why = format!("made with other settings: {how}; do it again with --again");
                return Err(Error::malformed(&folder, why));
            }
            State::Foreign(why) => return Err(Error::malformed(&folder, why)),
            _ if occupied(&folder) => return Err(not_ours(&folder)),
            _ => {}
        }
        fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        remove(&file)?;
        if !resume {
            // What a process left that was killed before its first checkpoint.
            clear(&folder)?;
        }
        record::write(&folder.join(BEGUN), &row.settings)?;
        row.state = State::Begun;
        let mut trainer =
            TokenizerTrainer::new(row.config.clone(), &folder, device, resume, progress)?;
        if trainer.run(progress)? == run::Outcome::Stopped {
            return Ok(None);
        }
        let Some(finished) = trainer.finish(progress)? else {
            return Ok(None);
        };
        let figures = Figures {
            date: record::today(),
            version: env!("CARGO_PKG_VERSION").into(),
            steps: finished.steps,
            codebook: row.settings.get(ENTRIES).cloned(),
            usage: finished.usage,
            quality: finished.evaluation.as_ref().map(Quality::of),
            unreadable: trainer.unreadable(),
        };
        let record = Record {
            settings: row.settings.clone(),
            outcome: Outcome::Done(Box::new(figures.clone())),
        };
        record::write(&file, &record)?;
        row.state = State::Done(Box::new(figures));
        Ok(Some(()))
    }

    /// Takes in which entries the codebook of row `index` has, for all rows that start from it: it may have been made just now.
    fn look_at_book(&mut self, index: usize) -> Result<()> {
        let Some(path) = self.rows[index].book().map(|book| book.path().to_owned()) else {
            return Ok(());
        };
        let entries = book_digest(&path)?;
        for row in &mut self.rows {
            let its = row.book().is_some_and(|book| book.path() == path);
            if its && row.settings.get(ENTRIES) != Some(&entries) {
                row.settings.insert(ENTRIES.into(), entries.clone());
                row.look(&self.out);
            }
        }
        Ok(())
    }

    /// Records that row `index` went wrong; what is there and is not this row's stays as it is.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn fail(&mut self, index: usize, reason: &str) -> Result<()> {
        let row = &mut self.rows[index];
        if let State::Other(_) | State::Foreign(_) = row.state {
            return Ok(());
        }
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

fn checkpoints(folder: &Path) -> Store {
    Store::new(&folder.join("checkpoints"), 1)
}

/// Whether something is there that is no run of an ablation.
fn occupied(folder: &Path) -> bool {
    let empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    };
    !empty && !folder.join(BEGUN).exists()
}

/// Removes all that is in a run's folder but what it was begun with.
fn clear(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
        } else if entry.file_name() != BEGUN {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file, where there is one.
fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(file, e)),
        _ => Ok(()),
    }
}

fn not_ours(folder: &Path) -> Error {
    let why = "is there and is no row of an ablation; move it away, or name another folder";
    Error::malformed(folder, why)
}

fn row(
    ablation: &Ablation,
    name: &str,
    out: &Path,
    device: &str,
    digests: &mut Digests,
) -> Result<Row> {
    let spec = &ablation.rows[name];
    let book = (spec.codebook.as_ref())
        .map(|book| planned(ablation, book, out, digests))
        .transpose()?;
    let mut config = ablation.config(name)?;
    config.data.images = Some(images(ablation)?.into());
    config.data.eval = ablation.data.eval.clone();
    config.data.eval_weights = ablation.data.weights.clone();
    config.quantizer.codebook = book.as_ref().map(|(book, _)| book.path().into());
    let config = config.with_absolute_paths()?;
    let mut settings = flat(&config)?;
    settings.insert(DEVICE.into(), device.into());
    if let Some((book, recipe)) = &book {
        settings.extend(recipe.iter().map(|(k, v)| (k.clone(), v.clone())));
        let entries = digests.book(book.path());
        settings.extend(entries.map(|entries| (ENTRIES.into(), entries)));
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
        state: state(out, name, &settings),
        name: name.into(),
        set: spec.set.clone(),
        book: book.map(|(book, _)| book),
        config,
        settings,
    })
}

/// What is there of a row.
fn state(out: &Path, name: &str, settings: &Settings) -> State {
    let (folder, file) = places(out, name);
    let read = record::read::<Settings>(&folder.join(BEGUN))
        .and_then(|begun| Ok((begun, record::read::<Record>(&file)?)));
    let (begun, record) = match read {
        Ok(found) => found,
        Err(e) => return State::Foreign(e.to_string()),
    };
    let made_with = record.as_ref().map(|record| &record.settings);
    for found in [made_with, begun.as_ref()].into_iter().flatten() {
        if let Some(difference) = difference(found, settings) {
            return State::Other(difference);
        }
    }
    match record.map(|record| record.outcome) {
        Some(Outcome::Done(figures)) => State::Done(figures),
        Some(Outcome::Failed(why)) => State::Failed(why),
        None if begun.is_some() => State::Begun,
        None if occupied(&folder) => State::Foreign(not_ours(&folder).to_string()),
        None => State::Open,
    }
}

pub(super) fn images(ablation: &Ablation) -> Result<&Path> {
    ablation.data.images.as_deref().ok_or_else(|| {
        Error::Config("data.images (--images) is missing: name the folder to learn from".into())
    })
}

fn protocol(ablation: &Ablation, device: &str, digests: &mut Digests) -> Result<table::Protocol> {
    let data = &ablation.data;
    Ok(table::Protocol {
        device: device.into(),
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
