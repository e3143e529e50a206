//! Training a tokenizer: encoder, quantizer and decoder, with an adversary (paper section 3.2 and 4.1).
//!
//! A run is a function of its configuration and its pictures: batch, noise and learning rate of a step depend on the seed and the
//! step's number alone, so a run that goes on from a checkpoint makes the steps it would have made.

mod build;
mod evaluate;
mod export;
mod finish;
mod generator;
mod report;
mod resume;
mod start;
mod step;
mod usage;

use std::{path::PathBuf, sync::Arc, time::Duration};

use candle_core::{Device, Tensor, Var};
use vqlc_model::network::{Decoder, Encoder};
use vqlc_ops::tensor::upload;

use crate::{
    Error, Params, Result, TokenizerConfig,
    checkpoint::Store,
    data::{Loader, LoaderOptions, Source},
    losses::discriminator::Discriminator,
    measure::{Codec, plain},
    metrics::Window,
    optim::{Adam, Ema, Schedule},
    quantizer::Quantizer,
    run::{Outcome, Pace, Parts, Progress, Run, Speed, Traces, drive},
    watch::grid,
};

pub use finish::Finished;
pub use report::StepReport;
pub use usage::{UsageCounts, UsageOptions, UsageReport, count_usage};

use build::Perceptual;

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
    parts: Parts,
    schedule: Schedule,
    source: Arc<Source>,
    loader: Loader,
    store: Store,
    /// The last ids.
    usage: Window,
    traces: Traces,
    /// Steps made.
    step: u64,
}

/// The adversary and its optimiser.
struct Gan {
    network: Discriminator,
    params: Params,
    adam: Adam,
}

/// Pairs in a row of a grid.
const COLUMNS: usize = 4;

impl TokenizerTrainer {
    /// Makes the steps that are left.
    ///
    /// # Errors
    /// [`Error::Diverged`]; what pictures, files and tensor operations report. The last checkpoint stays.
    pub fn run(&mut self, progress: &mut dyn Progress) -> Result<Outcome> {
        let outcome = drive(self, progress)?;
        if outcome == Outcome::Done {
            for skipped in self.source.skipped() {
                progress.note(&format!("left out {skipped}"));
            }
        }
        Ok(outcome)
    }

    /// That every weight is a finite number.
    fn check_weights(&self) -> Result<()> {
        match self.params.finite()? {
            true => Ok(()),
            false => Err(Error::diverged(self.step)),
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
        let shape = (batch.pictures.len(), 3, size, size);
        Ok(upload(batch.pixels, shape, &self.device)?)
    }

    /// Draws centre crops of the first pictures beside what comes back of them.
    fn draw_grid(&mut self) -> Result<()> {
        let options = LoaderOptions {
            batch: self.config.watch.grid_pictures,
            ..plain(self.config.data.eval_size, 1)
        };
        if let Some(batch) = Loader::start(&self.source, options, 0)?.next() {
            let batch = batch?;
            let count = batch.pictures.len();
            let made = if self.quantizes() {
                self.reconstruct(&batch.pixels, count, batch.size)?.1
            } else {
                self.pixels(&self.latent(&batch.pixels, count, batch.size)?)?
            };
            let size = (batch.size, batch.size);
            let picture = grid(&batch.pixels, &made, size, COLUMNS)?;
            self.traces.grid(self.step, "reconstructions", &picture)?;
        }
        Ok(())
    }
}

impl Run for TokenizerTrainer {
    type Values = StepReport;

    fn pace(&self) -> Pace {
        let TokenizerConfig {
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
        self.loader.waited()
    }

    fn step(&mut self, progress: &mut dyn Progress) -> Result<StepReport> {
        if self.step == self.config.warm_start.steps {
            self.start_quantizing(progress)?;
        }
        self.make_step()
    }

    fn log(&mut self, line: &mut StepReport, speed: Speed) -> Result<()> {
        let used = self.usage.shown();
        line.steps = self.config.run.steps;
        line.images_per_s = speed.pictures_per_s;
        line.data_wait = speed.data_wait;
        line.utilisation = used.share();
        line.perplexity = used.perplexity();
        line.tokens = used.tokens();
        self.traces.line(line.step, line, line.scalars())
    }

    fn draw(&mut self, _: &mut dyn Progress) -> Result<()> {
        self.check_weights()?;
        self.draw_grid()
    }

    fn save(&mut self, progress: &mut dyn Progress) -> Result<()> {
        self.write_checkpoint(progress)
    }

    fn store(&self) -> &Store {
        &self.store
    }
}
