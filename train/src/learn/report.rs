//! The metrics of a run on tokens.

use serde::Serialize;

use super::system::Figures;
use crate::run::{Line, Values};

/// One line of metrics. Losses are means over the steps since the last line.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LearnReport {
    /// Steps done.
    #[serde(skip)]
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Epoch of the last batch, from 0; of token files only.
    pub epoch: Option<u64>,
    /// What is minimised.
    pub loss: f64,
    /// What was measured on held-out pictures at this step.
    #[serde(skip_serializing_if = "Figures::is_empty")]
    pub val: Figures,
    /// Greatest norm of the gradient, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Pictures a second, everything counted.
    pub images_per_s: f64,
    /// Share of the time spent waiting for data.
    pub data_wait: f64,
}

impl LearnReport {
    /// Its numbers by their names in TensorBoard.
    pub(super) fn scalars(&self) -> Vec<(String, f64)> {
        let mut scalars = vec![
            ("loss/train".to_owned(), self.loss),
            ("optimizer/gradient_norm".to_owned(), self.gradient_norm),
            ("optimizer/lr".to_owned(), self.lr),
            ("speed/images_per_s".to_owned(), self.images_per_s),
            ("speed/data_wait".to_owned(), self.data_wait),
        ];
        let val = self.val.iter();
        scalars.extend(val.map(|(name, value)| (format!("val/{name}"), *value)));
        scalars
    }
}

impl Values for LearnReport {
    fn add(&mut self, step: &Self) {
        self.loss += step.loss;
        self.gradient_norm = self.gradient_norm.max(step.gradient_norm);
        (self.step, self.epoch, self.lr) = (step.step, step.epoch, step.lr);
    }

    fn divide(&mut self, steps: u64) {
        self.loss /= steps as f64;
    }

    fn phase(&self) -> &'static str {
        "learning"
    }
}

impl Line for LearnReport {
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
        let mut text = format!("loss {:.4}", self.loss);
        for (name, value) in &self.val {
            text += &format!(" val {name} {value:.4}");
        }
        text + &format!(
            " {:.2} images/s wait {:.0} %",
            self.images_per_s,
            100.0 * self.data_wait
        )
    }
}
