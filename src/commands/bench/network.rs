//! The network on random pictures and random ids.

use std::{hint::black_box, time::Duration};

use anyhow::ensure;
use vqlc_model::{DeviceSpec, Precision, Tokenizer, VqganConfig, rng::Rng};

use super::{BenchArgs, Measured, What, measure, random_ids};
use crate::default_model;

/// The network under test and its batch.
pub(super) struct Network {
    tokenizer: Tokenizer,
    name: String,
    side: usize,
    batch: usize,
    precision: Precision,
}

impl Network {
    pub(super) fn open(args: &BenchArgs) -> anyhow::Result<Self> {
        let (tokenizer, name) = match args.ch {
            Some(ch) => (
                Tokenizer::random(
                    &VqganConfig::paper_with_width(ch)?,
                    1,
                    args.network.device(),
                    args.network.precision,
                )?,
                format!("random weights, ch {ch}"),
            ),
            None => {
                let name = if args.model.model.is_some() {
                    "the model given"
                } else {
                    "the embedded model"
                };
                (
                    default_model::load(&args.model, &args.network)?,
                    name.to_owned(),
                )
            }
        };
        let (side, factor) = (args.size as usize, tokenizer.factor());
        ensure!(
            side.is_multiple_of(factor),
            "--size {side} is not a multiple of this model's factor, {factor}"
        );
        let default_batch = if matches!(args.network.device(), DeviceSpec::Cpu) {
            4
        } else {
            64
        };
        Ok(Self {
            tokenizer,
            name,
            side,
            batch: args.batch.map_or(default_batch, usize::from),
            precision: args.network.precision,
        })
    }

    fn detail(&self) -> String {
        format!(
            "{}, {}x{} pixels, batch {}, {}",
            self.name, self.side, self.side, self.batch, self.precision
        )
    }

    pub(super) fn encode(&self, budget: Duration) -> anyhow::Result<Measured> {
        let mut rng = Rng::new(2);
        let pixels: Vec<f32> = (0..self.batch * 3 * self.side * self.side)
            .map(|_| (2.0 * rng.uniform() - 1.0) as f32)
            .collect();
        measure(
            What::Encode,
            "pictures",
            self.detail(),
            self.batch as f64,
            budget,
            || {
                black_box(
                    self.tokenizer
                        .encode(&pixels, self.batch, self.side, self.side)?,
                );
                Ok(())
            },
        )
    }

    pub(super) fn decode(&self, budget: Duration) -> anyhow::Result<Measured> {
        let grid = self.side / self.tokenizer.factor();
        let ids = random_ids(3, self.batch * grid * grid, self.tokenizer.codebook_size());
        measure(
            What::Decode,
            "pictures",
            self.detail(),
            self.batch as f64,
            budget,
            || {
                black_box(self.tokenizer.decode(&ids, self.batch, grid, grid)?);
                Ok(())
            },
        )
    }
}
