//! Training a tokenizer: encoder, quantizer and decoder, with an adversary (paper section 3.2 and 4.1).
//!
//! A run is a function of its configuration and its pictures: batch, noise and learning rate of a step depend on the seed and the
//! step's number alone, so a run that goes on from a checkpoint makes the steps it would have made.

mod build;
mod evaluate;
mod export;
mod generator;
mod report;
mod resume;
mod start;
mod step;
mod usage;
mod watching;

use std::{path::PathBuf, sync::Arc, time::Instant};

use candle_core::{Device, Tensor, Var};
use rayon::ThreadPool;
use vqlc_model::network::{Decoder, Encoder};

use crate::{
    Error, Params, Result, TokenizerConfig,
    checkpoint::Store,
    data::{Loader, LoaderOptions, Source},
    losses::discriminator::Discriminator,
    metrics::Window,
    optim::{Adam, Ema, Schedule},
    quantizer::Quantizer,
};

pub use evaluate::{Codec, Evaluation, evaluate};
pub use report::{Progress, StepReport};
pub use usage::{UsageCounts, UsageOptions, UsageReport, UsageShare, count_usage};

use build::Perceptual;
use report::Means;
use watching::Watching;

/// A run in memory.
pub struct TokenizerTrainer {
    config: TokenizerConfig,
    device: Device,
    /// The run's folder.
    out: PathBuf,
    encoder: Encoder,
    decoder: Decoder,
    quantizer: Quantizer,
    /// All that the generator's optimiser changes.
    params: Params,
    /// The weight of the decoder's last convolution, for the adaptive weight.
    last_layer: Var,
    adam: Adam,
    ema: Option<Ema>,
    gan: Option<Gan>,
    perceptual: Option<Perceptual>,
    /// On the CPU, a pool for each part of a batch that is worked on side by side with others.
    pools: Vec<ThreadPool>,
    schedule: Schedule,
    source: Arc<Source>,
    loader: Loader,
    store: Store,
    /// The last ids.
    usage: Window,
    watching: Watching,
    /// Steps made.
    step: u64,
}

/// A loss so many times the lowest of its phase is beyond hope.
const BLOWN_UP: f64 = 100.0;

/// The adversary and its optimiser.
struct Gan {
    network: Discriminator,
    params: Params,
    adam: Adam,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are made.
    Done,
    /// It was asked to stop; a checkpoint is written.
    Stopped,
}

impl TokenizerTrainer {
    /// Makes the steps that are left.
    ///
    /// # Errors
    /// [`Error::Diverged`]; what pictures, files and tensor operations report. The last checkpoint stays.
    pub fn run(&mut self, progress: &mut dyn Progress) -> Result<Outcome> {
        let mut means = Means::default();
        let (mut phase, mut lowest) = ("", f64::INFINITY);
        let (mut since, mut waited) = (Instant::now(), self.loader.waited());
        let mut steps = 0;
        while self.step < self.config.run.steps {
            if progress.stop_requested() {
                self.save(progress)?;
                return Ok(Outcome::Stopped);
            }
            if self.step == self.config.warm_start.steps {
                self.start_quantizing(progress)?;
            }
            let quantized = self.quantizes();
            let mut report = self.step().map_err(|error| self.told_of(error))?;
            report.phase = if quantized {
                "quantized"
            } else {
                "autoencoder"
            };
            if report.phase != phase {
                (phase, lowest) = (report.phase, f64::INFINITY);
            }
            means.add(&report);
            steps += 1;
            let last = self.step == self.config.run.steps;
            if last || self.step.is_multiple_of(self.config.watch.log_every) {
                let elapsed = since.elapsed().as_secs_f64();
                let wait = (self.loader.waited() - waited).as_secs_f64();
                let pictures = steps * (self.config.run.batch * self.config.run.accumulate) as u64;
                let used = self.usage.shown();
                let line = StepReport {
                    step: report.step,
                    steps: self.config.run.steps,
                    phase: report.phase,
                    lr: report.lr,
                    images_per_s: pictures as f64 / elapsed,
                    data_wait: wait / elapsed,
                    utilisation: used.share(),
                    perplexity: used.perplexity(),
                    tokens: used.tokens(),
                    ..means.take()
                };
                self.watching.line(&line)?;
                progress.step(&line);
                lowest = lowest.min(line.loss);
                if line.loss > BLOWN_UP * lowest {
                    return Err(self.told_of(Error::diverged(self.step)));
                }
                (since, waited, steps) = (Instant::now(), self.loader.waited(), 0);
            }
            let grid = self.config.watch.grid_every;
            if last || grid > 0 && self.step.is_multiple_of(grid) {
                self.check_weights()?;
                self.draw_grid()?;
            }
            // Last: a run that goes on from here must not lack what belongs to this step.
            if last || self.step.is_multiple_of(self.config.checkpoint.every) {
                self.save(progress)?;
            }
        }
        for skipped in self.source.skipped() {
            progress.note(&format!("left out {skipped}"));
        }
        Ok(Outcome::Done)
    }

    /// That every weight is a finite number.
    fn check_weights(&self) -> Result<()> {
        for (_, var) in self.params.iter() {
            let sum = var.as_tensor().detach().sum_all()?.to_scalar::<f32>()?;
            if !sum.is_finite() {
                return Err(self.told_of(Error::diverged(self.step)));
            }
        }
        Ok(())
    }

    /// An error of divergence that says which checkpoint to go on from.
    fn told_of(&self, error: Error) -> Error {
        match error {
            Error::Diverged { step, .. } => Error::Diverged {
                step,
                checkpoint: self.store.last().ok().flatten(),
            },
            other => other,
        }
    }

    /// Training pictures that could not be read.
    pub fn unreadable(&self) -> usize {
        self.source.skipped().len()
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The configuration of the run, codebook sizes filled in.
    pub fn config(&self) -> &TokenizerConfig {
        &self.config
    }

    /// The next batch, `[b, 3, size, size]` on the device.
    fn next_batch(&mut self) -> Result<Tensor> {
        let batch = self
            .loader
            .next()
            .ok_or_else(|| Error::malformed(&self.out, "the pictures have come to an end"))??;
        let size = batch.size;
        Ok(Tensor::from_vec(
            batch.pixels,
            (batch.pictures.len(), 3, size, size),
            &self.device,
        )?)
    }

    /// Draws centre crops of the first pictures beside what comes back of them.
    fn draw_grid(&mut self) -> Result<()> {
        let options = LoaderOptions {
            batch: self.config.watch.grid_pictures,
            ..evaluate::plain(self.config.data.eval_size, 1)
        };
        if let Some(batch) = Loader::start(&self.source, options, 0)?.next() {
            let batch = batch?;
            let count = batch.pictures.len();
            let made = if self.quantizes() {
                self.reconstruct(&batch.pixels, count, batch.size)?.1
            } else {
                self.pixels(&self.latent(&batch.pixels, count, batch.size)?)?
            };
            self.watching
                .grid(self.step, &batch.pixels, &made, batch.size)?;
        }
        Ok(())
    }
}
