//! The pipeline of decompress: this thread unpacks ids, others run the network, and others compress and write the pictures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use rayon::prelude::*;
use vqlc_format::TokenFile;
use vqlc_model::Tokenizer;
use vqlc_model::image::{self, OutFormat, Preprocessing};

use super::Skipped;
use super::plan::Plan;
use crate::exit::{Exit, fail};
use crate::interrupt;
use crate::report::Progress;
use crate::text;

/// What the stages work on.
pub(super) struct Stages<'a, D> {
    pub(super) file: &'a TokenFile<D>,
    pub(super) plan: &'a Plan,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) preprocessing: &'a Preprocessing,
    pub(super) format: OutFormat,
    pub(super) threads: usize,
    /// Most records in the network at once; on a GPU two such batches take turns.
    pub(super) batch: usize,
    /// Most bytes a batch may take in the network.
    pub(super) memory: u64,
    /// Replace files that are there.
    pub(super) replace: bool,
    pub(super) skip_existing: bool,
    pub(super) progress: &'a Progress,
}

/// What was done.
#[derive(Default)]
pub(super) struct Done {
    /// Files written, skipped or there already.
    pub(super) seen: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) skipped: Vec<Skipped>,
}

/// A record on its way into the network.
struct Ids {
    ids: Vec<u32>,
    rows: usize,
    cols: usize,
    target: Target,
}

/// Where a picture goes, and how much of what the network gives is picture.
struct Target {
    /// For people.
    name: String,
    place: PathBuf,
    width: usize,
    height: usize,
}

/// A picture on its way to its file.
struct Pixels {
    pixels: Vec<f32>,
    width: usize,
    height: usize,
    target: Target,
}

impl<D: AsRef<[u8]> + Sync> Stages<'_, D> {
    /// Writes every planned file, until interrupted; the first error stops the work. Every file is whole or not there.
    pub(super) fn run(&self) -> anyhow::Result<Done> {
        let done = Mutex::new(Done::default());
        let failure = Mutex::new(None);
        let failed = |err| {
            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(err);
        };
        let (sender, receiver) = bounded::<Pixels>(self.threads);
        let (batches, batch_receiver) = bounded::<Vec<Ids>>(0);
        // While one batch comes back from a GPU the next is in it.
        let lanes = if self.tokenizer.device().is_cpu() {
            1
        } else {
            2
        };
        let has_failed = || {
            let failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.is_some()
        };
        thread::scope(|scope| {
            for _ in 0..self.threads {
                let receiver = receiver.clone();
                scope.spawn(|| self.write_all(receiver, &done).unwrap_or_else(failed));
            }
            for _ in 0..lanes {
                let (receiver, sender) = (batch_receiver.clone(), sender.clone());
                scope.spawn(|| {
                    self.decode_all(receiver, sender, has_failed)
                        .unwrap_or_else(failed);
                });
            }
            // Each stage ends when nothing more can come, or nothing more is taken.
            drop((receiver, batch_receiver, sender));
            self.gather_all(batches, &done, has_failed)
                .unwrap_or_else(failed);
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(err) => Err(err),
            None => Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Runs the network over batches until there are no more.
    fn decode_all(
        &self,
        batches: Receiver<Vec<Ids>>,
        sender: Sender<Pixels>,
        has_failed: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        for batch in batches {
            if has_failed() || interrupt::requested() {
                return Ok(());
            }
            for pixels in self.decode(batch)? {
                if sender.send(pixels).is_err() {
                    // The writers have gone, and said why.
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Unpacks records into batches.
    fn gather_all(
        &self,
        batches: Sender<Vec<Ids>>,
        done: &Mutex<Done>,
        has_failed: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let mut records = self.plan.records();
        let mut held = None;
        loop {
            let mut batch = Vec::new();
            let mut memory = 0_u64;
            while batch.len() < self.batch {
                let next = match held.take() {
                    Some(next) => next,
                    None => match records.next() {
                        Some((picture, view)) => match self.read(picture, view, done)? {
                            Some(ids) => ids,
                            None => continue,
                        },
                        None => break,
                    },
                };
                let need = self.need(&next);
                if memory > 0 && memory.saturating_add(need) > self.memory {
                    held = Some(next);
                    break;
                }
                memory = memory.saturating_add(need);
                batch.push(next);
            }
            if batch.is_empty() || has_failed() || interrupt::requested() {
                return Ok(());
            }
            if batches.send(batch).is_err() {
                // The network has gone, and said why.
                return Ok(());
            }
        }
    }

    fn need(&self, record: &Ids) -> u64 {
        let factor = self.tokenizer.factor();
        self.tokenizer.memory_estimate(
            record.rows.saturating_mul(factor),
            record.cols.saturating_mul(factor),
        )
    }

    /// Unpacks a record; `None` if its picture is not to be written.
    fn read(&self, picture: u64, view: usize, done: &Mutex<Done>) -> anyhow::Result<Option<Ids>> {
        let (name, place) = self.plan.place(self.file, picture, view)?;
        let place = match place {
            Ok(place) => place,
            Err(reason) => {
                self.skip(name, reason.to_owned(), done);
                return Ok(None);
            }
        };
        if self.skip_existing && place.symlink_metadata().is_ok() {
            done.lock().unwrap_or_else(PoisonError::into_inner).seen += 1;
            self.progress.advance(1, 0);
            return Ok(None);
        }
        let mut ids = Vec::new();
        let record = picture * self.file.views().len() as u64 + self.plan.view(view);
        let (rows, cols) = self
            .file
            .get(record, &mut ids)
            .with_context(|| format!("cannot bring back {name}"))?;
        let original = self.file.size(picture)?;
        let Some((width, height)) = self.preprocessing.decoded_size(original, rows, cols) else {
            let message = format!(
                "{name}: a picture of its recorded size does not give a grid of {rows} x {cols} ids"
            );
            return Err(fail(Exit::Damaged, message));
        };
        let record = Ids {
            ids,
            rows: rows as usize,
            cols: cols as usize,
            target: Target {
                name,
                place,
                width: width as usize,
                height: height as usize,
            },
        };
        let need = self.need(&record);
        if need > self.memory {
            let reason = format!(
                "{width} x {height} pixels need about {} of memory, --max-memory is {}",
                text::bytes(need),
                text::bytes(self.memory)
            );
            self.skip(record.target.name, reason, done);
            return Ok(None);
        }
        Ok(Some(record))
    }

    /// Leaves one picture out, and says so.
    fn skip(&self, name: String, reason: String, done: &Mutex<Done>) {
        self.progress.warn(&format!("skipped {name}: {reason}"));
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        done.seen += 1;
        done.skipped.push(Skipped { name, reason });
        drop(done);
        self.progress.advance(1, 0);
    }

    /// Runs the network over a batch: records of one shape together, on the CPU all shapes side by side.
    fn decode(&self, batch: Vec<Ids>) -> anyhow::Result<Vec<Pixels>> {
        let mut groups: BTreeMap<(usize, usize), Vec<Ids>> = BTreeMap::new();
        for record in batch {
            groups
                .entry((record.rows, record.cols))
                .or_default()
                .push(record);
        }
        let decode = |((rows, cols), records): ((usize, usize), Vec<Ids>)| {
            self.decode_group(rows, cols, records)
        };
        let pixels: Vec<Vec<Pixels>> = if self.tokenizer.device().is_cpu() {
            groups
                .into_par_iter()
                .map(decode)
                .collect::<anyhow::Result<_>>()?
        } else {
            groups
                .into_iter()
                .map(decode)
                .collect::<anyhow::Result<_>>()?
        };
        Ok(pixels.into_iter().flatten().collect())
    }

    fn decode_group(
        &self,
        rows: usize,
        cols: usize,
        records: Vec<Ids>,
    ) -> anyhow::Result<Vec<Pixels>> {
        let ids: Vec<u32> = records
            .iter()
            .flat_map(|record| &record.ids)
            .copied()
            .collect();
        let pixels = self
            .tokenizer
            .decode(&ids, records.len(), rows, cols)
            .context("the network failed")?;
        let factor = self.tokenizer.factor();
        let (height, width) = (rows * factor, cols * factor);
        let each = pixels.chunks_exact(3 * height * width);
        Ok(records
            .into_iter()
            .zip(each)
            .map(|(record, pixels)| Pixels {
                pixels: pixels.to_vec(),
                width,
                height,
                target: record.target,
            })
            .collect())
    }

    /// Compresses and writes pictures until there are no more.
    fn write_all(&self, receiver: Receiver<Pixels>, done: &Mutex<Done>) -> anyhow::Result<()> {
        for picture in receiver {
            let target = &picture.target;
            let shown = || format!("cannot write {}", target.place.display());
            let rgb = image::to_rgb8(
                &picture.pixels,
                picture.height,
                picture.width,
                target.height,
                target.width,
            )
            .with_context(shown)?;
            let mut content = Vec::new();
            image::write(&rgb, self.format, &mut content).with_context(shown)?;
            match self
                .plan
                .folder
                .write(&target.place, &content, self.replace)
            {
                Ok(()) => {}
                Err(err) if err.is_of_one_name() => {
                    let reason = format!("{:#}", anyhow::Error::new(err));
                    self.skip(picture.target.name, reason, done);
                    continue;
                }
                Err(err) => return Err(err.into()),
            }
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.seen += 1;
            done.files += 1;
            done.bytes += content.len() as u64;
            drop(done);
            self.progress.advance(1, content.len() as u64);
        }
        Ok(())
    }
}
