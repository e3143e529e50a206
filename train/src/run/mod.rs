//! What every training run shares: the walk from step to step, what it says meanwhile, and the traces it leaves on the disk.

mod parts;
mod traces;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crate::{Error, Result, checkpoint::Store};

pub(crate) use parts::Parts;
pub(crate) use traces::Traces;

/// A loss so many times the lowest of its phase, and above its first, is beyond hope.
const BLOWN_UP: f64 = 100.0;

/// One line of metrics.
pub trait Line {
    /// Steps done.
    fn step(&self) -> u64;
    /// The sum that is minimised.
    fn loss(&self) -> f64;
    /// Pictures a second, everything counted.
    fn pictures_per_s(&self) -> f64;
    /// What people want to see of it while they wait.
    fn text(&self) -> String;
}

/// Who is told how a run goes.
pub trait Progress {
    /// A line of metrics is there.
    fn step(&mut self, line: &dyn Line);
    /// Something worth a line of text.
    fn note(&mut self, text: &str);
    /// A checkpoint was written.
    fn checkpoint(&mut self, step: u64, path: &Path);
    /// Whether to stop at the next step, with a checkpoint.
    fn stop_requested(&self) -> bool;
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are made.
    Done,
    /// It was asked to stop; a checkpoint is written.
    Stopped,
}

/// When what is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Steps in all.
    pub(crate) steps: u64,
    /// Pictures of one.
    pub(crate) pictures: u64,
    /// Steps from one line of metrics to the next.
    pub(crate) log_every: u64,
    /// Steps from one grid of pictures to the next; 0 draws none.
    pub(crate) grid_every: u64,
    /// Steps from one checkpoint to the next.
    pub(crate) checkpoint_every: u64,
}

/// What was measured over the steps of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speed {
    /// Pictures a second, everything counted.
    pub(crate) pictures_per_s: f64,
    /// Share of the time spent waiting for data.
    pub(crate) data_wait: f64,
}

/// The values of a step, which become a line of means.
pub(crate) trait Values: Line + Default {
    /// Takes another step's values in: sums of what is to be a mean, the greatest norm, the newest of all else.
    fn add(&mut self, step: &Self);
    /// Sums become means over so many steps.
    fn divide(&mut self, steps: u64);
    /// Losses of different phases are not compared.
    fn phase(&self) -> &'static str;
}

/// A run that [`drive`] takes from step to step.
pub(crate) trait Run {
    /// What a step gives.
    type Values: Values;

    /// When what is done.
    fn pace(&self) -> Pace;
    /// Steps made.
    fn done(&self) -> u64;
    /// The time spent waiting for data so far.
    fn waited(&self) -> Duration;
    /// Makes the next step.
    fn step(&mut self, progress: &mut dyn Progress) -> Result<Self::Values>;
    /// Completes a line of means and writes it to the traces.
    fn log(&mut self, line: &mut Self::Values, speed: Speed) -> Result<()>;
    /// Draws what the run can do by now.
    fn draw(&mut self, progress: &mut dyn Progress) -> Result<()>;
    /// Writes a checkpoint of the state after the last step.
    fn save(&mut self, progress: &mut dyn Progress) -> Result<()>;
    /// Where its checkpoints are.
    fn store(&self) -> &Store;
}

/// Makes the steps that are left.
///
/// # Errors
/// [`Error::Diverged`]; what the run's parts report. The last checkpoint stays.
pub(crate) fn drive<R: Run>(run: &mut R, progress: &mut dyn Progress) -> Result<Outcome> {
    let pace = run.pace();
    let (mut phase, mut first, mut lowest) = ("", None, f64::INFINITY);
    let (mut since, mut waited) = (Instant::now(), run.waited());
    let (mut line, mut steps) = (R::Values::default(), 0);
    while run.done() < pace.steps {
        if progress.stop_requested() {
            run.save(progress).map_err(|e| told_of(run, e))?;
            return Ok(Outcome::Stopped);
        }
        let values = run.step(progress).map_err(|e| told_of(run, e))?;
        if values.phase() != phase {
            (phase, first, lowest) = (values.phase(), None, f64::INFINITY);
        }
        line.add(&values);
        steps += 1;
        let done = run.done();
        let last = done == pace.steps;
        if last || done.is_multiple_of(pace.log_every) {
            let elapsed = since.elapsed().as_secs_f64();
            let wait = (run.waited() - waited).as_secs_f64();
            let mut made = std::mem::take(&mut line);
            made.divide(steps);
            let speed = Speed {
                pictures_per_s: (steps * pace.pictures) as f64 / elapsed,
                data_wait: wait / elapsed,
            };
            run.log(&mut made, speed)?;
            progress.step(&made);
            let (loss, first) = (made.loss(), *first.get_or_insert(made.loss()));
            lowest = lowest.min(loss);
            if loss > first && loss > BLOWN_UP * lowest {
                return Err(told_of(run, Error::diverged(done)));
            }
            (since, waited, steps) = (Instant::now(), run.waited(), 0);
        }
        if pace.grid_every > 0 && (last || done.is_multiple_of(pace.grid_every)) {
            run.draw(progress).map_err(|e| told_of(run, e))?;
        }
        // Last: a run that goes on from here must not lack what belongs to this step.
        if last || done.is_multiple_of(pace.checkpoint_every) {
            run.save(progress).map_err(|e| told_of(run, e))?;
        }
    }
    Ok(Outcome::Done)
}

/// An error of divergence that says which checkpoint to go on from.
fn told_of<R: Run>(run: &R, error: Error) -> Error {
    match error {
        Error::Diverged { step, .. } => Error::Diverged {
            step,
            checkpoint: run.store().last().ok().flatten(),
        },
        other => other,
    }
}
