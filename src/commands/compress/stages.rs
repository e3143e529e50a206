//! The pipeline of compress: threads read and prepare pictures, one thread gathers them into batches, one runs the network (two where that is
//! on a GPU), the caller's writes; all in input order.

use std::collections::BTreeMap;
use std::thread;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use rayon::prelude::*;
use vqlc_format::{Picture, Writer};
use vqlc_model::image::{self, Fit, Icc};
use vqlc_model::{DeviceSpec, Tokenizer};

use super::args::CompressArgs;
use super::job::Job;
use super::outcome::Tally;
use crate::interrupt;
use crate::pipeline::{InOrder, in_order};
use crate::report::{Progress, shown};
use crate::text;
use crate::walk::Pictures;

/// How much is done at once.
pub(super) struct Limits {
    threads: usize,
    batch: usize,
    memory: u64,
    cuda: bool,
}

impl Limits {
    pub(super) fn new(args: &CompressArgs, threads: usize) -> Self {
        Self {
            threads,
            batch: args.batch(threads),
            memory: args.memory.limit(),
            cuda: matches!(args.network.device(), DeviceSpec::Cuda(_)),
        }
    }
}

/// A picture cannot be read, and the user wants to stop there.
#[derive(Debug, thiserror::Error)]
#[error("stopped at the first picture that cannot be read (--strict)")]
pub(super) struct StrictStop;

/// A picture read and prepared.
struct Prepared {
    views: Vec<Vec<f32>>,
    /// Height and width of each view in pixels.
    shape: (usize, usize),
    /// Original width and height in pixels.
    size: (u32, u32),
    /// Bytes the network needs for all views at once.
    memory: u64,
    note: Option<String>,
}

/// Pictures that go through the network together; of those that cannot be read, why.
type Batch = Vec<Result<Prepared, String>>;

/// A picture's ids, or why it has none.
type Coded = Result<Ids, String>;

struct Ids {
    ids: Vec<u32>,
    rows: u32,
    cols: u32,
    size: (u32, u32),
    note: Option<String>,
}

/// What the stages work on.
pub(super) struct Stages<'a> {
    pub(super) job: &'a Job,
    pub(super) pictures: &'a Pictures,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) limits: Limits,
    pub(super) progress: &'a Progress,
    /// Stop at the first picture that cannot be read.
    pub(super) strict: bool,
}

impl Stages<'_> {
    /// Compresses what `writer` does not have yet. Returns early, without an error, when interrupted; `tally` says how far it came.
    pub(super) fn run(&self, writer: &mut Writer, tally: &mut Tally) -> anyhow::Result<()> {
        let positions = writer.next_position()..self.job.len();
        let window = self.limits.batch + 2 * self.limits.threads;
        // Batches take the lanes in turn, and the results are drawn in turn. While one is in a GPU, the next is laid out and queued, so
        // that the GPU waits for neither that nor for what is done with the ids.
        let lanes = if self.limits.cuda { 2 } else { 1 };
        thread::scope(|scope| {
            if !positions.is_empty() {
                // Ready when the first latents are; an error shows where it is used.
                scope.spawn(|| self.tokenizer.prepare_search());
            }
            let (mut lanes_in, mut lanes_out) = (Vec::new(), Vec::new());
            for _ in 0..lanes {
                let (lane, batches) = bounded(0);
                let (done, coded) = bounded::<anyhow::Result<Vec<Coded>>>(2);
                scope.spawn(move || self.network(batches, done));
                lanes_in.push(lane);
                lanes_out.push(coded);
            }
            scope.spawn(move || {
                let read = |position| self.prepare(self.job.range.start + position);
                in_order(
                    positions,
                    self.limits.threads,
                    window,
                    interrupt::requested,
                    read,
                    |prepared| self.gather(prepared, &lanes_in),
                );
            });
            // Leaving this loop drops the receivers, and with them the other stages stop. The first lane that has no more ends the work.
            for batch in lanes_out.iter().cycle().map_while(|lane| lane.recv().ok()) {
                for coded in batch? {
                    self.write(coded, writer, tally)?;
                }
                // A batch can take the network long: a killed job should not have to do it again.
                writer.flush()?;
            }
            Ok(())
        })
    }

    /// First stage: reads and prepares a picture of the whole list.
    fn prepare(&self, picture: u64) -> Result<Prepared, String> {
        let rgb = image::read(&self.pictures.path(picture), &self.job.reading)
            .map_err(|err| with_causes(&err))?;
        let (width, height) = self.job.preprocessing.network_size(rgb.width, rgb.height);
        let need = self.tokenizer.memory_estimate(
            usize::try_from(height).unwrap_or(usize::MAX),
            usize::try_from(width).unwrap_or(usize::MAX),
        );
        if need > self.limits.memory {
            return Err(format!(
                "{} x {} pixels need about {} of memory, --max-memory is {}{}",
                rgb.width,
                rgb.height,
                text::bytes(need),
                text::bytes(self.limits.memory),
                if matches!(self.job.preprocessing.fit(), Fit::Whole { .. }) {
                    "; --max-side N shrinks such pictures"
                } else {
                    ""
                },
            ));
        }
        let prepared = self
            .job
            .preprocessing
            .prepare(&rgb)
            .map_err(|err| with_causes(&err))?;
        let side_by_side = prepared.views.len().min(self.limits.threads) as u64;
        Ok(Prepared {
            shape: (prepared.height, prepared.width),
            views: prepared.views,
            size: (rgb.width, rgb.height),
            memory: need.saturating_mul(side_by_side),
            note: match rgb.icc {
                Icc::Ignored(reason) => Some(format!(
                    "its colour profile is not applied ({reason}); colours may be off"
                )),
                Icc::None | Icc::Srgb | Icc::Converted => None,
            },
        })
    }

    /// Second stage: gathers pictures into batches.
    fn gather(&self, prepared: InOrder<Result<Prepared, String>>, lanes: &[Sender<Batch>]) {
        let mut prepared = prepared.map(|(_, result)| {
            result.unwrap_or_else(|_| {
                Err("reading it failed inside vqlc; please report this picture".to_owned())
            })
        });
        let mut held = None;
        for lane in lanes.iter().cycle() {
            let mut batch = Vec::new();
            let mut memory = 0_u64;
            while batch.len() < self.limits.batch {
                let Some(next) = held.take().or_else(|| prepared.next()) else {
                    break;
                };
                let need = next.as_ref().map_or(0, |picture| picture.memory);
                if memory > 0 && memory.saturating_add(need) > self.limits.memory {
                    held = Some(next);
                    break;
                }
                memory = memory.saturating_add(need);
                batch.push(next);
            }
            if batch.is_empty() || interrupt::requested() {
                return;
            }
            if lane.send(batch).is_err() {
                return;
            }
        }
    }

    /// Third stage: runs the network over batches.
    fn network(&self, batches: Receiver<Batch>, done: Sender<anyhow::Result<Vec<Coded>>>) {
        for batch in batches {
            if interrupt::requested() {
                return;
            }
            let coded = self.encode(batch);
            let failed = coded.is_err();
            if done.send(coded).is_err() || failed {
                return;
            }
        }
    }

    /// Runs the network over a batch: pictures of one shape together, on the CPU all shapes side by side.
    fn encode(&self, batch: Batch) -> anyhow::Result<Vec<Coded>> {
        let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (index, picture) in batch.iter().enumerate() {
            if let Ok(picture) = picture {
                groups.entry(picture.shape).or_default().push(index);
            }
        }
        let encode = |(&shape, members): (&(usize, usize), &Vec<usize>)| {
            self.encode_group(&batch, shape, members)
        };
        let ids: Vec<Vec<Vec<u32>>> = if self.limits.cuda {
            groups.iter().map(encode).collect::<Result<_, _>>()?
        } else {
            groups.par_iter().map(encode).collect::<Result<_, _>>()?
        };
        let mut ids_of: Vec<Vec<u32>> = vec![Vec::new(); batch.len()];
        for (&index, ids) in groups.values().flatten().zip(ids.into_iter().flatten()) {
            ids_of[index] = ids;
        }
        let factor = self.tokenizer.factor();
        let coded = batch.into_iter().zip(ids_of).map(|(picture, ids)| {
            picture.map(|picture| Ids {
                ids,
                rows: (picture.shape.0 / factor) as u32,
                cols: (picture.shape.1 / factor) as u32,
                size: picture.size,
                note: picture.note,
            })
        });
        Ok(coded.collect())
    }

    /// The ids of each of `members`, all of one `shape`.
    fn encode_group(
        &self,
        batch: &[Result<Prepared, String>],
        (height, width): (usize, usize),
        members: &[usize],
    ) -> anyhow::Result<Vec<Vec<u32>>> {
        let views = self.job.spec.views.len();
        // Which kernels a GPU picks depends on the batch, so there it is the same for every picture: filled up where all are of
        // one shape, one picture where each has its own.
        let (together, filled) = match (self.limits.cuda, self.job.preprocessing.fit()) {
            (false, _) => (members.len(), members.len()),
            (true, Fit::Crop { .. }) => (members.len(), self.limits.batch),
            (true, Fit::Whole { .. }) => (1, 1),
        };
        let count = filled * views;
        let mut coded = Vec::with_capacity(members.len());
        for members in members.chunks(together) {
            let mut pixels = Vec::with_capacity(count * 3 * height * width);
            for picture in members
                .iter()
                .filter_map(|&index| batch[index].as_ref().ok())
            {
                picture
                    .views
                    .iter()
                    .for_each(|view| pixels.extend_from_slice(view));
            }
            pixels.resize(count * 3 * height * width, 0.0);
            let ids = self
                .tokenizer
                .encode(&pixels, count, height, width)
                .context("the network failed")?;
            let each = ids.len() / filled;
            coded.extend(
                ids.chunks_exact(each)
                    .take(members.len())
                    .map(<[u32]>::to_vec),
            );
        }
        Ok(coded)
    }

    /// Last stage: one picture into the file, or onto the list of those skipped.
    fn write(&self, coded: Coded, writer: &mut Writer, tally: &mut Tally) -> anyhow::Result<()> {
        let position = tally.next;
        let picture = self.job.range.start + position;
        let name = self.pictures.name(picture);
        match coded {
            Ok(coded) => {
                if let Some(note) = &coded.note {
                    tally.notes += 1;
                    self.progress
                        .warn(&format!("note: {}: {note}", shown(name)));
                }
                let record = Picture {
                    name,
                    label: if self.job.labels {
                        self.pictures.class(picture)
                    } else {
                        None
                    },
                    width: coded.size.0,
                    height: coded.size.1,
                    rows: coded.rows,
                    cols: coded.cols,
                    ids: &coded.ids,
                };
                writer
                    .push(position, &record)
                    .with_context(|| format!("cannot write {}", shown(name)))?;
                tally.written += 1;
            }
            Err(reason) => {
                self.progress
                    .warn(&format!("skipped {}: {reason}", shown(name)));
                if self.strict {
                    return Err(StrictStop.into());
                }
                tally.skip(name, reason, self.pictures.size(picture));
            }
        }
        tally.next += 1;
        self.progress.advance(1, self.pictures.size(picture));
        Ok(())
    }
}

/// An error and what lies behind it, on one line.
fn with_causes(err: &dyn std::error::Error) -> String {
    let mut line = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        let text = err.to_string();
        // Several libraries repeat the cause in their own text.
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = err.source();
    }
    line
}
