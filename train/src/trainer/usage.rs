//! How much of the codebook is used by the training pictures (paper section 4.1).

use candle_core::{Device, Tensor};
use serde::Serialize;

use super::{Codec, Progress, TokenizerTrainer, build::order, evaluate::plain};
use crate::{
    Error, Result,
    data::{Augment, Batch, Loader, Order},
    files::write_whole,
    metrics::Usage,
};

/// Says how far a long count is so many times.
const NOTES: u64 = 10;

/// How much of a codebook some tokens use (paper section 4.1).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct UsageShare {
    /// Tokens counted.
    pub tokens: u64,
    /// Share of the entries used at least once.
    pub utilisation: f64,
    /// exp of the entropy of the ids.
    pub perplexity: f64,
}

impl UsageShare {
    fn of(usage: &Usage) -> Self {
        Self {
            tokens: usage.tokens(),
            utilisation: usage.share(),
            perplexity: usage.perplexity(),
        }
    }
}

/// Utilisation over the training pictures.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct UsageReport {
    /// One pass of centre crops.
    pub plain: UsageShare,
    /// Seeded crops, as many tokens as `watch.usage_tokens_per_code` asks for.
    pub crops: UsageShare,
}

impl TokenizerTrainer {
    /// Counts ids over the training pictures and saves the counts as `usage.safetensors` in the run's folder; `None` where it was asked
    /// to stop, and nothing is saved then.
    ///
    /// The seeded crops are as large as those that are measured, `data.eval_size`, and show as much of a picture as those that were learnt
    /// from do.
    ///
    /// # Errors
    /// Files and tensor operations.
    pub fn measure_usage(
        &self,
        codec: &dyn Codec,
        progress: &mut dyn Progress,
    ) -> Result<Option<UsageReport>> {
        let data = &self.config.data;
        let mut counts = [Usage::new(codec.codes()), Usage::new(codec.codes())];
        let mut options = plain(data.eval_size, data.workers);
        for batch in Loader::start(&self.source, options, 0)? {
            if progress.stop_requested() {
                return Ok(None);
            }
            count_batch(codec, &batch?, &mut counts[0])?;
        }
        let wanted = self.config.watch.usage_tokens_per_code * codec.codes() as u64;
        options.order = order(&self.config, self.config.run.seed ^ 0x0075_7361_6765);
        if let Order::Shuffled { augment, .. } = &mut options.order {
            *augment = of_size(*augment, data.size, data.eval_size);
        }
        let (mut tokens, mut said) = (0, 0);
        let mut crops = Loader::start(&self.source, options, 0)?;
        while tokens < wanted {
            if progress.stop_requested() {
                return Ok(None);
            }
            let Some(batch) = crops.next() else { break };
            tokens += count_batch(codec, &batch?, &mut counts[1])?;
            let tenths = NOTES * tokens / wanted;
            if tenths > said {
                said = tenths;
                progress.note(&format!(
                    "counting used entries: {} % of {wanted} tokens, {:.2} % used",
                    (100 * tokens / wanted).min(100),
                    100.0 * counts[1].share()
                ));
            }
        }
        let tensors = ["plain", "crops"]
            .into_iter()
            .zip(&counts)
            .map(|(name, counts)| {
                let counts: Vec<i64> = counts.counts().iter().map(|&c| c as i64).collect();
                Ok((name, Tensor::from_vec(counts, codec.codes(), &Device::Cpu)?))
            });
        let tensors: Vec<(&str, Tensor)> = tensors.collect::<Result<_>>()?;
        let path = self.out.join("usage.safetensors");
        let bytes = safetensors::serialize(tensors, None)
            .map_err(|e| Error::malformed(&path, e.to_string()))?;
        write_whole(&path, &bytes)?;
        Ok(Some(UsageReport {
            plain: UsageShare::of(&counts[0]),
            crops: UsageShare::of(&counts[1]),
        }))
    }
}

/// Crops of `to` pixels that show as much of a picture as those of `from` pixels do: scales are relative to a crop's side.
fn of_size(augment: Augment, from: usize, to: usize) -> Augment {
    let relative = |scale: f64| (scale * from as f64 / to as f64).max(1.0);
    Augment {
        min_scale: relative(augment.min_scale),
        max_scale: relative(augment.max_scale),
        ..augment
    }
}

fn count_batch(codec: &dyn Codec, batch: &Batch, usage: &mut Usage) -> Result<u64> {
    let ids = codec.ids(&batch.pixels, batch.pictures.len(), batch.size)?;
    usage.add(&ids)?;
    Ok(ids.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_of_another_size_show_as_much_of_a_picture() {
        let augment = |min_scale, max_scale| Augment {
            min_scale,
            max_scale,
            flip: true,
        };
        assert_eq!(of_size(augment(2.0, 2.5), 128, 256), augment(1.0, 1.25));
        assert_eq!(of_size(augment(1.0, 1.25), 256, 256), augment(1.0, 1.25));
        assert_eq!(of_size(augment(1.0, 4.0), 64, 256), augment(1.0, 1.0));
    }
}
