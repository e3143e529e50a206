//! A training run told to people.

use std::path::Path;

use vqlc_train::run::{Line, Progress};

use crate::{
    interrupt,
    report::{Reporter, Steps},
};

/// Shows how far a run is, on a bar or in lines.
pub(crate) struct Watcher {
    reporter: Reporter,
    steps: Steps,
}

impl Watcher {
    /// For a run of `steps` steps.
    pub(crate) fn new(reporter: Reporter, steps: u64) -> Self {
        Self {
            reporter,
            steps: reporter.steps(steps),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.steps.finish();
    }
}

impl Progress for Watcher {
    fn step(&mut self, line: &dyn Line) {
        self.steps.at(line.step(), &line.text());
    }

    fn note(&mut self, text: &str) {
        self.steps.note(&self.reporter, text);
    }

    fn checkpoint(&mut self, step: u64, path: &Path) {
        self.reporter
            .detail(&format!("step {step}: wrote {}", path.display()));
    }

    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }
}
