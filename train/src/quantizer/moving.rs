//! ema: a table of moving averages.

use candle_core::{DType, Device, Tensor};
use vqlc_model::{params::Tensors, rng::Rng};

use super::{Match, QuantizerConfig, nearest};
use crate::{Error, Result};

const CLUSTER_SIZE: &str = "cluster_size";
const EMBED_AVG: &str = "embed_avg";
const WEIGHT: &str = "weight";

pub(super) struct Moving {
    decay: f64,
    eps: f64,
    /// How many latents each entry gets a step, averaged, `[codes]`.
    cluster_size: Tensor,
    /// Their sums, averaged, `[codes, dim]`.
    embed_avg: Tensor,
    /// The table, `[codes, dim]`.
    weight: Tensor,
}

impl Moving {
    /// Without a start the table is drawn from a standard normal distribution. No entry counts as used yet.
    pub(super) fn new(
        config: &QuantizerConfig,
        start: Option<Tensor>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let (codes, dim) = (config.codes, config.dim);
        let weight = match start {
            Some(start) => start,
            None => {
                let mut rng = Rng::new(seed);
                let values = (0..codes * dim).map(|_| rng.normal() as f32).collect();
                Tensor::from_vec(values, (codes, dim), device)?
            }
        };
        Ok(Self {
            decay: config.ema_decay,
            eps: config.ema_eps,
            cluster_size: Tensor::zeros(codes, DType::F32, device)?,
            embed_avg: weight.clone(),
            weight,
        })
    }

    pub(super) fn find(&self, z: Tensor) -> Result<Match> {
        let ids = nearest(&z, &self.weight)?;
        let q = self.weight.index_select(&ids, 0)?;
        Ok(Match { z, q, ids })
    }

    pub(super) fn table(&self) -> Tensor {
        self.weight.clone()
    }

    /// Counts and sums are taken on the CPU, latent by latent in f32: in one order on every device, and candle's own scatter on CUDA
    /// walks the ids one after the other too.
    pub(super) fn update(&mut self, z: &Tensor, ids: &Tensor) -> Result<()> {
        let (codes, dim) = self.weight.dims2()?;
        let (values, ids) = (
            z.detach().flatten_all()?.to_vec1::<f32>()?,
            ids.to_vec1::<u32>()?,
        );
        let known = ids.iter().all(|&id| (id as usize) < codes);
        if values.len() != ids.len() * dim || !known {
            return Err(Error::Argument {
                what: "ids",
                expected: format!(
                    "one below {codes} for each of {} latents",
                    values.len() / dim
                ),
                found: format!("{} ids", ids.len()),
            });
        }
        let (mut counts, mut sums) = (vec![0f32; codes], vec![0f32; codes * dim]);
        for (&id, latent) in ids.iter().zip(values.chunks_exact(dim)) {
            let id = id as usize;
            counts[id] += 1.0;
            for (sum, x) in sums[id * dim..][..dim].iter_mut().zip(latent) {
                *sum += x;
            }
        }
        let device = self.weight.device();
        let counts = Tensor::from_vec(counts, codes, device)?;
        let sums = Tensor::from_vec(sums, (codes, dim), device)?;
        let rest = 1.0 - self.decay;
        self.cluster_size = ((&self.cluster_size * self.decay)? + (counts * rest)?)?;
        self.embed_avg = ((&self.embed_avg * self.decay)? + (sums * rest)?)?;
        let total = f64::from(self.cluster_size.sum_all()?.to_scalar::<f32>()?);
        // Laplace smoothing: the counts' sum stays, and none is 0.
        let smoothed =
            ((&self.cluster_size + self.eps)? * (total / (total + codes as f64 * self.eps)))?;
        self.weight = self.embed_avg.broadcast_div(&smoothed.unsqueeze(1)?)?;
        Ok(())
    }

    pub(super) fn state(&self) -> Tensors {
        [
            (CLUSTER_SIZE, &self.cluster_size),
            (EMBED_AVG, &self.embed_avg),
            (WEIGHT, &self.weight),
        ]
        .map(|(name, tensor)| (name.to_owned(), tensor.clone()))
        .into()
    }

    pub(super) fn load_state(&mut self, state: &Tensors) -> Result<()> {
        let own = self.state();
        let extra = || state.keys().filter(|name| !own.contains_key(*name));
        if let Some(first) = extra().next() {
            return Err(vqlc_model::Error::ExtraTensors {
                first: first.clone(),
                count: extra().count(),
            }
            .into());
        }
        let take = |name: &str, now: &Tensor| -> Result<Tensor> {
            let expected = now.dims().to_vec();
            let name = name.to_owned();
            match state.get(&name) {
                None => Err(vqlc_model::Error::MissingTensor { name, expected }.into()),
                Some(stored) if stored.dims() != expected => {
                    let found = stored.dims().to_vec();
                    Err(vqlc_model::Error::TensorShape {
                        name,
                        expected,
                        found,
                    }
                    .into())
                }
                Some(stored) => Ok(stored
                    .to_device(now.device())?
                    .to_dtype(DType::F32)?
                    .detach()),
            }
        };
        let cluster_size = take(CLUSTER_SIZE, &self.cluster_size)?;
        let embed_avg = take(EMBED_AVG, &self.embed_avg)?;
        self.weight = take(WEIGHT, &self.weight)?;
        (self.cluster_size, self.embed_avg) = (cluster_size, embed_avg);
        Ok(())
    }
}
