//! Batches, prepared ahead by threads.

use std::{
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use vqlc_format::order::Permutation;
use vqlc_model::image::{Fit, ImageError, Preprocessing, Rgb, Views};

use super::{Augment, Order, Source, plan};
use crate::{Error, Result};

/// How batches are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Side of the square crops in pixels.
    pub size: u32,
    /// Pictures in a batch.
    pub batch: usize,
    /// Order and crops.
    pub order: Order,
    /// Threads that read and crop; they change nothing but the speed.
    pub threads: usize,
    /// Batches prepared ahead of the one asked for.
    pub ahead: usize,
}

/// Pictures for one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its number in the run, from 0.
    pub number: u64,
    /// The picture each sample shows, as an index into [`super::Pictures`]; as many as the batch holds.
    pub pictures: Vec<usize>,
    /// [batch, 3, size, size] f32 in [-1,1].
    pub pixels: Vec<f32>,
    /// Side in pixels.
    pub size: usize,
}

/// A crop and the picture it is of.
type Sample = (usize, Vec<f32>);

/// Deals out the batches of a run, from any number on; an iterator that under [`Order::Shuffled`] never ends.
///
/// Thread `t` of `T` makes the samples congruent to `t` modulo `T`, each into a queue of its own, and the queues are emptied in
/// turn: the order is that of one thread, and no thread is far ahead.
#[derive(Debug)]
pub struct Loader {
    queues: Vec<Receiver<Result<Option<Sample>>>>,
    workers: Vec<JoinHandle<()>>,
    options: LoaderOptions,
    folder: PathBuf,
    /// How many samples a pass has; `None` for ever.
    samples: Option<u64>,
    first_sample: u64,
    next_sample: u64,
    next_batch: u64,
    waited: Duration,
    ended: bool,
}

impl Loader {
    /// Starts the threads. `first_batch` is the number of batches that the run has taken before: the next one is the one it would
    /// have taken then. (A plain pass begins at its beginning, where `first_batch` is 0, or after so many whole batches of files.)
    ///
    /// # Errors
    /// [`Error::Config`] for a size, scale, batch or thread count that cannot be; a thread that cannot be started.
    pub fn start(source: &Arc<Source>, options: LoaderOptions, first_batch: u64) -> Result<Self> {
        plan::check(options.size, &options.order)?;
        if options.batch == 0 || options.threads == 0 || options.ahead == 0 {
            return Err(Error::Config(
                "batch, threads and batches ahead must each be at least 1".into(),
            ));
        }
        let first = first_batch
            .checked_mul(options.batch as u64)
            .ok_or_else(|| Error::Config(format!("there is no batch {first_batch}")))?;
        let threads = options.threads;
        // More queued samples than these would be further ahead than asked for.
        let capacity = options
            .ahead
            .saturating_mul(options.batch)
            .div_ceil(threads);
        let mut loader = Self {
            queues: Vec::new(),
            workers: Vec::new(),
            options,
            folder: source.pictures().folder().to_path_buf(),
            samples: match options.order {
                Order::Plain => Some(source.pictures().count() as u64),
                Order::Shuffled { .. } => None,
            },
            first_sample: first,
            next_sample: first,
            next_batch: first_batch,
            waited: Duration::ZERO,
            ended: false,
        };
        for index in 0..threads {
            let (sender, receiver) = bounded(capacity);
            let worker = Worker {
                maker: Maker::new(source.clone(), &options)?,
                sender,
                next: first.saturating_add(index as u64),
                stride: threads as u64,
            };
            let handle = thread::Builder::new()
                .name(format!("pictures {index}"))
                .spawn(move || worker.run())
                .map_err(|e| Error::io(source.pictures().folder(), e))?;
            loader.queues.push(receiver);
            loader.workers.push(handle);
        }
        Ok(loader)
    }

    /// The batches taken since the run began, this loader's first one included: what a checkpoint keeps.
    pub fn position(&self) -> u64 {
        self.next_batch
    }

    /// The time the callers have waited for batches that were not yet there.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    fn sample(&mut self) -> Result<Option<Sample>> {
        loop {
            if self.samples.is_some_and(|end| self.next_sample >= end) {
                return Ok(None);
            }
            let turn = (self.next_sample - self.first_sample) % self.queues.len() as u64;
            let queue = &self.queues[turn as usize];
            let received = queue.try_recv().or_else(|_| {
                let start = Instant::now();
                let received = queue.recv();
                self.waited += start.elapsed();
                received
            });
            self.next_sample += 1;
            match received {
                // A plain pass leaves out what cannot be read.
                Ok(Ok(None)) => {}
                Ok(other) => return other,
                Err(_) => {
                    let reason = "a thread that reads its pictures has ended early";
                    return Err(Error::malformed(&self.folder, reason));
                }
            }
        }
    }

    fn batch(&mut self) -> Result<Option<Batch>> {
        let Self {
            options: LoaderOptions { size, batch, .. },
            ..
        } = *self;
        let side = size as usize;
        let mut out = Batch {
            number: self.next_batch,
            pictures: Vec::new(),
            pixels: Vec::new(),
            size: side,
        };
        while out.pictures.len() < batch {
            let Some((picture, pixels)) = self.sample()? else {
                break;
            };
            out.pictures.push(picture);
            if out.pixels.is_empty() {
                out.pixels.reserve(pixels.len().saturating_mul(batch));
            }
            out.pixels.extend_from_slice(&pixels);
        }
        if out.pictures.is_empty() {
            return Ok(None);
        }
        self.next_batch += 1;
        Ok(Some(out))
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    /// The next batch. Of a plain pass the last may be smaller. After an error (no picture can be read) there are no more.
    fn next(&mut self) -> Option<Result<Batch>> {
        if self.ended {
            return None;
        }
        let out = self.batch().transpose();
        self.ended = !matches!(out, Some(Ok(_)));
        out
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Workers end when nobody takes what they make.
        self.queues.clear();
        for worker in self.workers.drain(..) {
            // One that panicked has nothing more to say.
            let _ = worker.join();
        }
    }
}

/// What a thread runs.
struct Worker {
    maker: Maker,
    sender: Sender<Result<Option<Sample>>>,
    next: u64,
    stride: u64,
}

impl Worker {
    fn run(mut self) {
        while let Some(sample) = self.maker.sample(self.next) {
            let failed = sample.is_err();
            if self.sender.send(sample).is_err() || failed {
                return;
            }
            let Some(next) = self.next.checked_add(self.stride) else {
                return;
            };
            self.next = next;
        }
    }
}

/// Makes any sample of a run.
struct Maker {
    source: Arc<Source>,
    size: u32,
    order: Order,
    plain: Preprocessing,
    /// The permutation of the epoch last asked for.
    epoch: (u64, Permutation),
}

impl Maker {
    fn new(source: Arc<Source>, options: &LoaderOptions) -> Result<Self> {
        let fit = Fit::Crop { size: options.size };
        let plain = Preprocessing::new(fit, Views::Center, 1, [255; 3])
            .map_err(|e| Error::Config(e.to_string()))?;
        let seed = match options.order {
            Order::Shuffled { seed, .. } => seed,
            Order::Plain => 0,
        };
        let order = plan::permutation(source.pictures().count() as u64, seed, 0);
        Ok(Self {
            source,
            size: options.size,
            order: options.order,
            plain,
            epoch: (0, order),
        })
    }

    /// Sample `number`; `None` after the last, and inside where the picture cannot be read.
    fn sample(&mut self, number: u64) -> Option<Result<Option<Sample>>> {
        match self.order {
            Order::Shuffled { seed, augment } => {
                Some(self.shuffled(number, seed, &augment).map(Some))
            }
            Order::Plain => {
                let count = self.source.pictures().count();
                let index = usize::try_from(number).ok().filter(|&i| i < count)?;
                let plain = &self.plain;
                let first_view = |rgb: &Rgb| {
                    let mut prepared = plain.prepare(rgb)?;
                    Ok(prepared.views.swap_remove(0))
                };
                Some(Ok(self.made(index, first_view)))
            }
        }
    }

    fn shuffled(&mut self, number: u64, seed: u64, augment: &Augment) -> Result<Sample> {
        let count = self.source.pictures().count() as u64;
        let (epoch, slot) = (number / count, number % count);
        if self.epoch.0 != epoch {
            self.epoch = (epoch, plan::permutation(count, seed, epoch));
        }
        let crop = plan::crop(seed, epoch, slot, self.size, augment);
        // The slots from this one on, and round to the epoch's first ones.
        (slot..count)
            .chain(0..slot)
            .find_map(|slot| self.made(self.epoch.1.at(slot) as usize, |rgb| crop.cut(rgb)))
            .ok_or_else(|| self.none_readable())
    }

    /// The crop of a picture; `None`, and noted, if it cannot be had.
    fn made(
        &self,
        index: usize,
        crop: impl Fn(&Rgb) -> Result<Vec<f32>, ImageError>,
    ) -> Option<Sample> {
        match crop(&*self.source.get(index)?) {
            Ok(pixels) => Some((index, pixels)),
            Err(error) => {
                self.source.skip(index, error.to_string());
                None
            }
        }
    }

    fn none_readable(&self) -> Error {
        let skipped = self.source.skipped();
        let first = skipped
            .first()
            .map(|s| format!("; {}: {}", s.name.display(), s.reason))
            .unwrap_or_default();
        let pictures = self.source.pictures();
        Error::malformed(
            pictures.folder(),
            format!(
                "none of its {} pictures can be read{first}",
                pictures.count()
            ),
        )
    }
}
