//! What a run says while it works.

use serde::Serialize;

use crate::run::{Line, Values};

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

impl StepReport {
    /// Its numbers by their names in TensorBoard.
    pub(super) fn scalars(&self) -> [(&'static str, f64); 15] {
        [
            ("loss/total", self.loss),
            ("loss/l1", self.l1),
            ("loss/l2", self.l2),
            ("loss/perceptual", self.perceptual),
            ("loss/quantizer", self.quantizer),
            ("loss/generator", self.generator),
            ("loss/discriminator", self.discriminator),
            ("gan/adaptive_weight", self.adaptive_weight),
            ("codebook/quantization_error", self.quantization_error),
            ("codebook/utilisation", self.utilisation),
            ("codebook/perplexity", self.perplexity),
            ("optimizer/gradient_norm", self.gradient_norm),
            ("optimizer/lr", self.lr),
            ("speed/images_per_s", self.images_per_s),
            ("speed/data_wait", self.data_wait),
        ]
    }

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

impl Values for StepReport {
    fn add(&mut self, step: &Self) {
        for (sum, value) in self.losses().into_iter().zip(step.clone().losses()) {
            *sum += *value;
        }
        self.gradient_norm = self.gradient_norm.max(step.gradient_norm);
        (self.step, self.phase, self.lr) = (step.step, step.phase, step.lr);
    }

    fn divide(&mut self, steps: u64) {
        for sum in self.losses() {
            *sum /= steps as f64;
        }
    }

    fn phase(&self) -> &'static str {
        self.phase
    }
}

impl Line for StepReport {
    fn step(&self) -> u64 {
        self.step
    }

    fn loss(&self) -> f64 {
        self.loss
    }

    fn pictures_per_s(&self) -> f64 {
        self.images_per_s
    }

    fn text(&self) -> String {
        let mut text = format!("loss {:.4} l1 {:.4}", self.loss, self.l1);
        if self.perceptual > 0.0 {
            text += &format!(" perceptual {:.4}", self.perceptual);
        }
        if self.phase == "quantized" {
            text += &format!(
                " quantization {:.1} % used {:.1} % perplexity {:.0}",
                100.0 * self.quantization_error,
                100.0 * self.utilisation,
                self.perplexity
            );
        }
        if self.discriminator > 0.0 {
            text += &format!(" g {:.3} d {:.3}", self.generator, self.discriminator);
        }
        text + &format!(
            " {:.2} images/s wait {:.0} %",
            self.images_per_s,
            100.0 * self.data_wait
        )
    }
}
