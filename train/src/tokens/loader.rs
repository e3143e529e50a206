//! Batches of ids, gathered ahead by threads.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use vqlc_format::order::{Epoch, Sampler, Shard};
use vqlc_model::rng::Rng;

use super::TokenSet;
use crate::{Error, Result};

/// Which view is taken of a picture that has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewChoice {
    /// One of them, drawn anew for each picture and epoch.
    Drawn,
    /// Always this one.
    Always(u32),
}

/// How batches are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenOptions {
    /// Pictures of a batch of this rank.
    pub batch: usize,
    /// What order and views are drawn from.
    pub seed: u64,
    /// This process's part of each epoch.
    pub shard: Shard,
    /// Which view of each picture.
    pub views: ViewChoice,
    /// Whether the last batch of an epoch is left out where it would be smaller than the others.
    pub whole_batches: bool,
    /// Batches gathered ahead of the one asked for.
    pub ahead: usize,
    /// Threads that gather; they change nothing but the speed.
    pub threads: usize,
}

/// Some pictures' ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBatch {
    /// The epoch they are of, from 0.
    pub epoch: u64,
    /// Their numbers in the set.
    pub pictures: Vec<u64>,
    /// `[pictures, rows, cols]`, row-major.
    pub ids: Vec<u32>,
    /// The class of each; `None` where it has none.
    pub labels: Vec<Option<u32>>,
}

/// Where a run stands in its data: kept in checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenPosition {
    /// What order and views are drawn from.
    pub seed: u64,
    /// The epoch of the last batch taken, from 0.
    pub epoch: u64,
    /// Pictures that all ranks together have taken of it; all of them where the next batch is the next epoch's.
    pub taken: u64,
    /// The content digest of each token file.
    pub contents: Vec<String>,
}

/// Deals out the batches of a run for ever, epoch behind epoch, each in an order of its own. What it gives depends on set,
/// options and position alone.
///
/// Thread `t` of `T` gathers the batches congruent to `t` modulo `T`, each into a queue of its own, and the queues are emptied in turn.
pub struct TokenLoader {
    queues: Vec<Receiver<Result<Made>>>,
    /// The queue whose turn it is.
    turn: usize,
    /// Batches that were looked at, for their memory.
    used: Sender<TokenBatch>,
    current: TokenBatch,
    workers: Vec<JoinHandle<()>>,
    position: TokenPosition,
    waited: Duration,
    set: Arc<TokenSet>,
}

/// A batch, and where the run stands after it.
struct Made {
    batch: TokenBatch,
    taken: u64,
}

impl TokenLoader {
    /// Starts the threads: at the beginning, or where a checkpoint was written.
    ///
    /// # Errors
    /// [`Error::Config`] for a batch that the set cannot fill or a view that it has not; [`Error::Malformed`] for a position in other files.
    pub fn start(
        set: &Arc<TokenSet>,
        options: TokenOptions,
        from: Option<&TokenPosition>,
    ) -> Result<Self> {
        let contents: Vec<String> = set.contents().iter().map(ToString::to_string).collect();
        let position = match from {
            Some(from) if from.contents != contents => {
                let reason = format!(
                    "its contents are {}, the run to go on with was trained on {}",
                    contents.join(", "),
                    from.contents.join(", ")
                );
                return Err(Error::malformed(set.path(), reason));
            }
            Some(from) if from.seed != options.seed => {
                return Err(Error::Config(format!(
                    "the seed is {}, that of the run to go on with {}",
                    options.seed, from.seed
                )));
            }
            Some(from) => from.clone(),
            None => TokenPosition {
                seed: options.seed,
                epoch: 0,
                taken: 0,
                contents,
            },
        };
        let sampler = Sampler::new(set.pictures(), options.seed, options.shard);
        let share = sampler.epoch(0, 0).remaining();
        let least = if options.whole_batches {
            options.batch as u64
        } else {
            1
        };
        if options.batch == 0 || options.ahead == 0 || options.threads == 0 || share < least {
            return Err(Error::Config(format!(
                "a batch of {} with {} ahead by {} threads cannot be taken from {share} pictures an epoch",
                options.batch, options.ahead, options.threads
            )));
        }
        if let ViewChoice::Always(view) = options.views
            && view as usize >= set.views().len()
        {
            return Err(Error::Config(format!(
                "view {view} is not there: each picture has {}",
                set.views().len()
            )));
        }
        let (used, free) = bounded(options.ahead + 2 * options.threads);
        let mut loader = Self {
            queues: Vec::new(),
            turn: 0,
            used,
            current: TokenBatch::default(),
            workers: Vec::new(),
            position,
            waited: Duration::ZERO,
            set: set.clone(),
        };
        for index in 0..options.threads {
            let (sender, queue) = bounded(options.ahead.div_ceil(options.threads));
            let worker = Worker {
                set: set.clone(),
                options,
                sampler: sampler.clone(),
                sender,
                free: free.clone(),
            };
            let plan = Plan {
                epoch: loader.position.epoch,
                taken: loader.position.taken,
            };
            let handle = thread::Builder::new()
                .name(format!("token ids {index}"))
                .spawn(move || worker.run(plan, index))
                .map_err(|source| Error::io(set.path(), source))?;
            loader.queues.push(queue);
            loader.workers.push(handle);
        }
        Ok(loader)
    }

    /// The next batch; its memory serves a later one again.
    ///
    /// # Errors
    /// [`Error::Tokens`] for a damaged file; the loader ends with it.
    pub fn next_batch(&mut self) -> Result<&TokenBatch> {
        let queue = &self.queues[self.turn];
        self.turn = (self.turn + 1) % self.queues.len();
        let received = queue.try_recv().or_else(|_| {
            let start = Instant::now();
            let received = queue.recv();
            self.waited += start.elapsed();
            received
        });
        let made = received.unwrap_or_else(|_| {
            let reason = "the thread that gathers its ids has ended early";
            Err(Error::malformed(self.set.path(), reason))
        })?;
        (self.position.epoch, self.position.taken) = (made.batch.epoch, made.taken);
        let used = std::mem::replace(&mut self.current, made.batch);
        // Where it is not wanted its memory is freed.
        let _ = self.used.try_send(used);
        Ok(&self.current)
    }

    /// Where the run stands after the batches taken: what a checkpoint keeps.
    pub fn position(&self) -> &TokenPosition {
        &self.position
    }

    /// The time the callers have waited for batches that were not yet there.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for TokenLoader {
    fn drop(&mut self) {
        // A thread ends when nobody takes what it makes.
        self.queues.clear();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// Keeps what views are drawn from apart from what orders are.
const VIEWS: u64 = 0x7669_6577_7300;

struct Worker {
    set: Arc<TokenSet>,
    options: TokenOptions,
    sampler: Sampler,
    sender: Sender<Result<Made>>,
    free: Receiver<TokenBatch>,
}

/// Where a run stands between two batches.
#[derive(Clone, Copy)]
struct Plan {
    epoch: u64,
    taken: u64,
}

impl Plan {
    /// The next batch, of so many pictures from the place that `order` has come to, and where the run stands after it.
    fn next(self, sampler: &Sampler, options: &TokenOptions, pictures: u64) -> (Planned, Self) {
        let (mut epoch, batch) = (self.epoch, options.batch as u64);
        let mut order = sampler.epoch(epoch, self.taken);
        let enough = |left: u64| left >= batch || left > 0 && !options.whole_batches;
        if !enough(order.remaining()) {
            epoch += 1;
            order = sampler.epoch(epoch, 0);
        }
        let count = order.remaining().min(batch);
        let mut rest = order.clone();
        rest.pass_over(count);
        // Nothing more of this epoch: so for every rank, however many it had.
        let taken = match enough(rest.remaining()) {
            true => rest.position(),
            false => pictures,
        };
        let planned = Planned {
            epoch,
            order,
            count,
        };
        (planned, Self { epoch, taken })
    }
}

/// A batch to be gathered.
struct Planned {
    epoch: u64,
    order: Epoch,
    count: u64,
}

impl Worker {
    /// Gathers every batch whose turn is `index`'s.
    fn run(self, mut plan: Plan, index: usize) {
        for turn in (0..self.options.threads).cycle() {
            let (planned, after) = plan.next(&self.sampler, &self.options, self.set.pictures());
            plan = after;
            if turn != index {
                continue;
            }
            let pictures = planned.order.take(planned.count as usize);
            let taken = after.taken;
            let made = self.batch(planned.epoch, pictures);
            let made = made.map(|batch| Made { batch, taken });
            let failed = made.is_err();
            if self.sender.send(made).is_err() || failed {
                return;
            }
        }
    }

    fn batch(&self, epoch: u64, pictures: impl Iterator<Item = u64>) -> Result<TokenBatch> {
        let mut batch = self.free.try_recv().unwrap_or_default();
        batch.epoch = epoch;
        batch.pictures.clear();
        batch.pictures.extend(pictures);
        let records: Vec<(u64, u32)> = (batch.pictures.iter())
            .map(|&picture| (picture, self.view(epoch, picture)))
            .collect();
        // What was there is overwritten.
        batch.ids.resize(records.len() * self.set.ids(), 0);
        self.set.gather(&records, &mut batch.ids)?;
        batch.labels.clear();
        match self.set.classes() {
            Some(_) => {
                for &picture in &batch.pictures {
                    batch.labels.push(self.set.label(picture)?);
                }
            }
            None => batch.labels.resize(records.len(), None),
        }
        Ok(batch)
    }

    /// The view of a picture in an epoch: drawn from (seed, epoch, picture), so that it depends on no rank.
    fn view(&self, epoch: u64, picture: u64) -> u32 {
        let views = self.set.views().len() as u64;
        match self.options.views {
            ViewChoice::Always(view) => view,
            ViewChoice::Drawn if views == 1 => 0,
            ViewChoice::Drawn => {
                let mut state = Rng::new(self.options.seed ^ VIEWS).next_u64();
                for part in [epoch, picture] {
                    state = Rng::new(state.wrapping_add(part)).next_u64();
                }
                // Below 2^32 times a number of 32 bits: no more than 2^-32 from even.
                ((u128::from(state) * u128::from(views)) >> 64) as u32
            }
        }
    }
}
