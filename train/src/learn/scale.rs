//! The per-channel standard deviation of the latents that a run learns on.

use candle_core::{Device, Tensor};
use vqlc_model::Tokenizer;
use vqlc_ops::tensor::upload;

use super::{Facts, LearnConfig, feed::Data, look_up};
use crate::{
    Result,
    data::{Augment, Loader, LoaderOptions, Order},
    tokens::TokenSet,
};

/// Pictures that it is taken over at most.
const PICTURES: u64 = 2048;
/// The same where latents must be computed.
const ENCODED: u64 = 64;

impl Data {
    /// The deviation `[dim]` of each channel of the latents, over some pictures spread evenly over the set: a function of data and
    /// configuration alone.
    pub(super) fn scale(
        &self,
        config: &LearnConfig,
        facts: &Facts,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<f32>> {
        let latents = match self {
            Self::Tokens(set) => looked_up(set, facts, tokenizer)?,
            Self::Pictures { source, .. } => {
                let options = LoaderOptions {
                    size: config.data.size as u32,
                    batch: 8,
                    order: Order::Shuffled {
                        seed: config.run.seed ^ 0x0073_6361_6c65,
                        augment: Augment::default(),
                    },
                    threads: rayon::current_num_threads(),
                    ahead: 2,
                };
                let mut found = Vec::new();
                let batches = Loader::start(source, options, 0)?;
                for batch in batches.take(ENCODED as usize / options.batch) {
                    let batch = batch?;
                    let shape = (batch.pictures.len(), 3, batch.size, batch.size);
                    let pixels = upload(batch.pixels, shape, tokenizer.device())?;
                    found.push(tokenizer.latent(&pixels)?.to_device(&Device::Cpu)?);
                }
                Tensor::cat(&found, 0)?
            }
        };
        deviations(&latents)
    }
}

/// z_q of every so-many-th picture.
fn looked_up(set: &TokenSet, facts: &Facts, tokenizer: &Tokenizer) -> Result<Tensor> {
    let count = set.pictures().min(PICTURES);
    let records: Vec<(u64, u32)> = (0..count)
        .map(|at| (at * set.pictures() / count, 0))
        .collect();
    let mut ids = vec![0; records.len() * set.ids()];
    set.gather(&records, &mut ids)?;
    let ids = Tensor::from_vec(ids, (records.len(), set.ids()), &Device::Cpu)?;
    let entries = super::file::codebook(tokenizer, &Device::Cpu)?;
    Ok(look_up(&entries, &ids, facts)?)
}

/// Of each channel of `[b, dim, h, w]`, in f64; a channel that never changes has 1.
fn deviations(latents: &Tensor) -> Result<Vec<f32>> {
    let channels = latents
        .permute((1, 0, 2, 3))?
        .flatten_from(1)?
        .to_vec2::<f32>()?;
    let deviation = |values: &Vec<f32>| {
        let count = values.len().max(1) as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let square = |v: &f32| (f64::from(*v) - mean).powi(2);
        let deviation = (values.iter().map(square).sum::<f64>() / count).sqrt();
        if deviation > 0.0 {
            deviation as f32
        } else {
            1.0
        }
    };
    Ok(channels.iter().map(deviation).collect())
}
