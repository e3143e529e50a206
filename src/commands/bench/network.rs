//! The network on random pictures and random ids. On a GPU these lie there already: what brings pictures and ids there is at work beside
//! the network, and is measured with it by a whole `vqlc compress` or `decompress`.

use std::{hint::black_box, time::Duration};

use anyhow::ensure;
use vqlc_model::{DeviceSpec, Precision, Tokenizer, VqganConfig, rng::Rng};
use vqlc_ops::tensor::upload;

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
        let place = if self.tokenizer.device().is_cpu() {
            ""
        } else {
            ", from and to its memory"
        };
        format!(
            "{}, {}x{} pixels, batch {}, {}{place}",
            self.name, self.side, self.side, self.batch, self.precision
        )
    }

    pub(super) fn encode(&self, budget: Duration) -> anyhow::Result<Measured> {
        let mut rng = Rng::new(2);
        let pixels: Vec<f32> = (0..self.batch * 3 * self.side * self.side)
            .map(|_| (2.0 * rng.uniform() - 1.0) as f32)
            .collect();
        let device = self.tokenizer.device();
        let there = (!device.is_cpu())
            .then(|| upload(&pixels[..], (self.batch, 3, self.side, self.side), device))
            .transpose()?;
        measure(
            What::Encode,
            "pictures",
            self.detail(),
            self.batch as f64,
            budget,
            || {
                black_box(match &there {
                    Some(there) => self.tokenizer.encode_tensor(there)?,
                    None => self
                        .tokenizer
                        .encode(&pixels, self.batch, self.side, self.side)?,
                });
                Ok(())
            },
        )
    }

    pub(super) fn decode(&self, budget: Duration) -> anyhow::Result<Measured> {
        let grid = self.side / self.tokenizer.factor();
        let ids = random_ids(3, self.batch * grid * grid, self.tokenizer.codebook_size());
        let device = self.tokenizer.device();
        let there = (!device.is_cpu())
            .then(|| self.tokenizer.lookup(&ids, self.batch, grid, grid))
            .transpose()?;
        measure(
            What::Decode,
            "pictures",
            self.detail(),
            self.batch as f64,
            budget,
            || {
                match &there {
                    Some(there) => {
                        black_box(self.tokenizer.decode_tensor(there)?);
                        device.synchronize()?;
                    }
                    None => {
                        black_box(self.tokenizer.decode(&ids, self.batch, grid, grid)?);
                    }
                }
                Ok(())
            },
        )
    }
}
