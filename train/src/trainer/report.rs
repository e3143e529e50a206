//! What a run says while it works.

use std::path::Path;

use serde::Serialize;

/// One line of metrics. Losses are means over the steps since the last line.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StepReport {
    /// Steps done.
    #[serde(skip)]
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// "autoencoder" before anything is quantised, then "quantized".
    pub phase: &'static str,
    /// The sum that is minimised.
    pub loss: f64,
    /// Mean absolute error.
    pub l1: f64,
    /// Mean squared error.
    pub l2: f64,
    /// Perceptual distance.
    pub perceptual: f64,
    /// Quantizer loss.
    pub quantizer: f64,
    /// |z - z_q|^2 over the variance of z.
    pub quantization_error: f64,
    /// Generator's adversarial loss.
    pub generator: f64,
    /// Discriminator's loss.
    pub discriminator: f64,
    /// The adaptive weight.
    pub adaptive_weight: f64,
    /// Greatest norm of the generator's gradient, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Pictures a second, everything counted.
    pub images_per_s: f64,
    /// Share of the time spent waiting for pictures.
    pub data_wait: f64,
    /// Share of the entries used by the tokens counted in this window (at most four an entry).
    pub utilisation: f64,
    /// Perplexity of the same tokens.
    pub perplexity: f64,
    /// Tokens in the window.
    pub tokens: u64,
}

/// Who is told how a run goes.
pub trait Progress {
    /// A line of metrics is there.
    fn step(&mut self, report: &StepReport);
    /// Something worth a line of text.
    fn note(&mut self, text: &str);
    /// A checkpoint was written.
    fn checkpoint(&mut self, step: u64, path: &Path);
    /// Whether to stop at the next step, with a checkpoint.
    fn stop_requested(&self) -> bool;
}

impl StepReport {
    /// The values that are means over steps and batches.
    pub(super) fn losses(&mut self) -> [&mut f64; 9] {
        [
            &mut self.loss,
            &mut self.l1,
            &mut self.l2,
            &mut self.perceptual,
            &mut self.quantizer,
            &mut self.quantization_error,
            &mut self.generator,
            &mut self.discriminator,
            &mut self.adaptive_weight,
        ]
    }
}

/// Sums of losses since the last line.
#[derive(Clone, Debug, Default)]
pub(super) struct Means {
    steps: u64,
    sums: StepReport,
}

impl Means {
    /// Adds one step's values.
    pub(super) fn add(&mut self, step: &StepReport) {
        self.steps += 1;
        for (sum, value) in self.sums.losses().into_iter().zip(step.clone().losses()) {
            *sum += *value;
        }
        self.sums.gradient_norm = self.sums.gradient_norm.max(step.gradient_norm);
    }

    /// The means so far (of the gradient's norm the greatest), and starts anew.
    pub(super) fn take(&mut self) -> StepReport {
        let steps = self.steps.max(1) as f64;
        let mut out = std::mem::take(self).sums;
        for sum in out.losses() {
            *sum /= steps;
        }
        out
    }
}
