//! A run on tokens, in memory.

use std::{sync::Arc, time::Duration};

use candle_core::Device;
use serde::Serialize;
use vqlc_model::{Tokenizer, rng::Rng};

use super::{
    Examples, Figures, LearnConfig, LearnReport, NetworkFile, Request, Setting, System, each_batch,
    feed::Feed,
};
use crate::{
    Error, Params, Result,
    checkpoint::Store,
    optim::{Adam, Ema, Grads, Schedule},
    run::{Outcome, Pace, Parts, Progress, Run, Speed, Traces, drive},
    tokens::TokenSet,
    watch::sheet,
};

/// Pictures in a row of a grid.
const COLUMNS: usize = 8;

/// A network that learns from tokens.
pub struct LearnTrainer {
    pub(super) config: LearnConfig,
    pub(super) device: Device,
    pub(super) system: Box<dyn System>,
    pub(super) setting: Setting,
    pub(super) continuous: bool,
    pub(super) params: Params,
    pub(super) adam: Adam,
    pub(super) ema: Option<Ema>,
    pub(super) parts: Parts,
    pub(super) schedule: Schedule,
    pub(super) feed: Feed,
    pub(super) val: Option<TokenSet>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) store: Store,
    pub(super) traces: Traces,
    /// The last figures on held-out pictures, and the step they are of.
    pub(super) measured: Option<(u64, Figures)>,
    /// Steps made.
    pub(super) step: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Learned {
    /// Steps made.
    pub steps: u64,
    /// What the averaged weights are worth on the held-out pictures, where there are any.
    pub val: Figures,
    /// Held-out pictures.
    pub val_pictures: u64,
}

impl LearnTrainer {
    /// Makes the steps that are left.
    ///
    /// # Errors
    /// [`Error::Diverged`]; what data, files and tensor operations report. The last checkpoint stays.
    pub fn run(&mut self, progress: &mut dyn Progress) -> Result<Outcome> {
        let outcome = drive(self, progress)?;
        for skipped in self.feed.skipped() {
            progress.note(&format!("left out {skipped}"));
        }
        Ok(outcome)
    }

    /// Training pictures that could not be read.
    pub fn unreadable(&self) -> usize {
        self.feed.skipped().len()
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The network with its averaged weights, where there are any.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn network(&self) -> Result<NetworkFile> {
        let run = &self.config.run;
        Ok(NetworkFile {
            section: self.config.model.clone().without_files(),
            facts: self.setting.facts.clone(),
            scale: self.setting.scale.clone(),
            continuous: self.continuous,
            provenance: format!(
                "vqlc {} train {}, step {} of {}, seed {}",
                env!("CARGO_PKG_VERSION"),
                self.config.model.kind(),
                self.step,
                run.steps,
                run.seed
            ),
            tensors: match &self.ema {
                Some(ema) => ema.weights().clone(),
                None => self.params.values()?,
            },
        })
    }

    /// What the network is worth by now, with averaged weights where there are any.
    ///
    /// # Errors
    /// What data and tensor operations report.
    pub fn learned(&mut self) -> Result<Learned> {
        Ok(Learned {
            steps: self.step,
            val: match self.measured.take() {
                Some((step, val)) if step == self.step => val,
                _ => self.with_averages(Self::measure)?,
            },
            val_pictures: self.val.as_ref().map_or(0, TokenSet::pictures),
        })
    }

    /// Figures on the held-out pictures, with the weights as they are: means over pictures.
    fn measure(&mut self) -> Result<Figures> {
        let Some(val) = &self.val else {
            return Ok(Figures::new());
        };
        let labels = self.config.data.labels;
        measure(
            self.system.as_ref(),
            val,
            labels,
            self.config.run.batch,
            &self.device,
        )
    }

    /// Does `work` with the averaged weights in place.
    fn with_averages<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let Some(ema) = &self.ema else {
            return work(self);
        };
        let own = self.params.values()?;
        self.params.set(ema.weights())?;
        let done = work(self);
        self.params.set(&own)?;
        done
    }

    /// Draws samples, the classes one after the other.
    fn draw_samples(&mut self) -> Result<()> {
        let Some(how) = self.system.sampling() else {
            return Ok(());
        };
        let tokenizer = self.tokenizer.as_ref();
        let facts = &self.setting.facts;
        let (count, classes) = (self.config.watch.grid_pictures, facts.classes.len() as u32);
        let request = Request {
            classes: (0..count as u32)
                .map(|number| number.checked_rem(classes))
                .collect(),
            seed: self.config.run.seed,
            first: 0,
            how,
        };
        let ids = self.system.sample(&request, tokenizer)?;
        let (rows, cols) = (facts.rows as usize, facts.cols as usize);
        let pixels = tokenizer.decode(&ids, count, rows, cols)?;
        let size = (rows * tokenizer.factor(), cols * tokenizer.factor());
        let picture = sheet(&pixels, size, COLUMNS)?;
        self.traces.grid(self.step, "samples", &picture)
    }

    /// One step: losses, gradients, optimiser.
    fn make_step(&mut self) -> Result<LearnReport> {
        let run = &self.config.run;
        let share = 1.0 / run.accumulate as f64;
        let mut report = LearnReport {
            lr: self.schedule.at((self.step + 1) as f64),
            ..LearnReport::default()
        };
        let mut total: Option<Grads> = None;
        for first in (0..run.accumulate).step_by(self.parts.together()) {
            let count = self.parts.together().min(run.accumulate - first);
            let examples: Vec<Examples> = (0..count)
                .map(|_| self.feed.next(&self.device))
                .collect::<Result<_>>()?;
            let (system, params, step) = (&self.system, &self.params, self.step);
            let passes = self.parts.map(&examples, first, |examples, part| {
                let loss = system.loss(examples, &mut draws(run.seed, step, part))?;
                let grads = Grads::of(&loss.backward()?, params)?;
                Ok((f64::from(loss.to_scalar::<f32>()?), grads))
            })?;
            for (loss, grads) in passes {
                report.loss += share * loss;
                match &mut total {
                    Some(total) => total.add(grads)?,
                    None => total = Some(grads),
                }
            }
        }
        let mut grads = total.unwrap_or_default();
        grads.scale(share)?;
        report.gradient_norm = match self.config.optimizer.clip {
            0.0 => grads.global_norm()?,
            clip => grads.clip(clip)?,
        };
        if !(report.loss.is_finite() && report.gradient_norm.is_finite()) {
            return Err(Error::diverged(self.step + 1));
        }
        let system = &self.system;
        self.adam
            .step_by(&self.params, &grads, report.lr, |name, rank| {
                system.share(name, rank)
            })?;
        if let Some(ema) = &mut self.ema {
            ema.update(&self.params)?;
        }
        self.step += 1;
        report.step = self.step;
        report.epoch = self.feed.epoch();
        Ok(report)
    }
}

/// What a part of a step draws.
fn draws(seed: u64, step: u64, part: usize) -> Rng {
    let mixed = Rng::new(seed ^ 0x6c65_6172_6e73).next_u64();
    let mixed = Rng::new(mixed.wrapping_add(step)).next_u64();
    Rng::new(Rng::new(mixed.wrapping_add(part as u64)).next_u64())
}

/// Figures of a network on token files: means over pictures, first views.
///
/// # Errors
/// What data and tensor operations report.
pub fn measure(
    system: &dyn System,
    set: &TokenSet,
    labels: bool,
    batch: usize,
    device: &Device,
) -> Result<Figures> {
    let (mut sums, mut batches) = (Figures::new(), 0);
    each_batch(set, batch, labels, device, |examples| {
        // Drawn anew each time, so that figures of different steps can be compared.
        let figures = system.measure(&examples, &mut draws(0, batches, 0))?;
        batches += 1;
        for (name, value) in figures {
            *sums.entry(name).or_default() += value * examples.count() as f64;
        }
        Ok(())
    })?;
    for sum in sums.values_mut() {
        *sum /= set.pictures() as f64;
    }
    Ok(sums)
}

impl Run for LearnTrainer {
    type Values = LearnReport;

    fn pace(&self) -> Pace {
        let LearnConfig {
            run,
            watch,
            checkpoint,
            ..
        } = &self.config;
        Pace {
            steps: run.steps,
            pictures: (run.batch * run.accumulate) as u64,
            log_every: watch.log_every,
            grid_every: watch.grid_every,
            checkpoint_every: checkpoint.every,
        }
    }

    fn done(&self) -> u64 {
        self.step
    }

    fn waited(&self) -> Duration {
        self.feed.waited()
    }

    fn step(&mut self, _: &mut dyn Progress) -> Result<LearnReport> {
        self.make_step()
    }

    fn log(&mut self, line: &mut LearnReport, speed: Speed) -> Result<()> {
        let every = self.config.watch.val_every;
        if every > 0 && self.step.is_multiple_of(every) || self.step == self.config.run.steps {
            line.val = self.with_averages(Self::measure)?;
            self.measured = Some((self.step, line.val.clone()));
        }
        line.steps = self.config.run.steps;
        line.images_per_s = speed.pictures_per_s;
        line.data_wait = speed.data_wait;
        let scalars = line.scalars();
        let scalars = scalars.iter().map(|(name, value)| (name.as_str(), *value));
        self.traces.line(line.step, line, scalars)
    }

    fn draw(&mut self, _: &mut dyn Progress) -> Result<()> {
        if !self.params.finite()? {
            return Err(Error::diverged(self.step));
        }
        self.with_averages(Self::draw_samples)
    }

    fn save(&mut self, progress: &mut dyn Progress) -> Result<()> {
        self.write_checkpoint(progress)
    }

    fn store(&self) -> &Store {
        &self.store
    }
}
