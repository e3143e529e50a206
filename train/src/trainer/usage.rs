//! How much of the codebook is used by the training pictures (paper section 4.1).

use std::{path::Path, sync::Arc};

use candle_core::{Device, Tensor};
use serde::Serialize;

use super::{Codec, Progress, TokenizerTrainer, build::augment, evaluate::plain};
use crate::{
    Error, Result,
    data::{Augment, Batch, Loader, Order, Source},
    files::write_whole,
    metrics::Usage,
};

/// Says how far a long count is so many times.
const NOTES: u64 = 10;
/// Keeps the crops that are counted apart from those that were learnt from.
const CROPS: u64 = 0x0075_7361_6765;

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
    /// Seeded crops, as many tokens an entry as was asked for.
    pub crops: UsageShare,
}

impl UsageReport {
    /// The figures as lines of text; crops that were not counted have none.
    pub fn text(&self) -> String {
        let ways = [("plain pass", &self.plain), ("seeded crops", &self.crops)];
        let counted = ways.into_iter().filter(|(_, share)| share.tokens > 0);
        counted
            .map(|(name, share)| {
                format!(
                    "{name:<14}{:.2} % of the entries used by {} tokens, perplexity {:.0}\n",
                    100.0 * share.utilisation,
                    share.tokens,
                    share.perplexity
                )
            })
            .collect()
    }
}

/// How pictures are gone through when ids are counted.
#[derive(Clone, Copy, Debug)]
pub struct UsageOptions {
    /// Side of the crops, pixels.
    pub size: usize,
    /// How the seeded crops are drawn.
    pub augment: Augment,
    /// What they are drawn from.
    pub seed: u64,
    /// How many tokens of them an entry; 0 takes the plain pass only.
    pub tokens_per_code: u64,
    /// Threads that read and decode.
    pub threads: usize,
}

/// How often each entry was chosen, in both ways of going through the pictures.
#[derive(Clone, Debug)]
pub struct UsageCounts {
    /// One pass of centre crops.
    pub plain: Usage,
    /// Seeded crops.
    pub crops: Usage,
}

impl UsageCounts {
    /// What they come to.
    pub fn report(&self) -> UsageReport {
        UsageReport {
            plain: UsageShare::of(&self.plain),
            crops: UsageShare::of(&self.crops),
        }
    }

    /// Writes the counts as safetensors: `plain` and `crops`, i64 `[N]` each.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let tensors = [("plain", &self.plain), ("crops", &self.crops)]
            .into_iter()
            .map(|(name, usage)| {
                let counts: Vec<i64> = usage.counts().iter().map(|&c| c as i64).collect();
                let entries = counts.len();
                Ok((name, Tensor::from_vec(counts, entries, &Device::Cpu)?))
            });
        let tensors: Vec<(&str, Tensor)> = tensors.collect::<Result<_>>()?;
        let bytes = safetensors::serialize(tensors, None)
            .map_err(|e| Error::malformed(path, e.to_string()))?;
        write_whole(path, &bytes)
    }
}

/// Counts the ids of the pictures of `source`. `go_on` is told the counts after each batch; where it answers no, the outcome is `None`.
///
/// # Errors
/// Pictures, and tensor operations.
pub fn count_usage(
    codec: &dyn Codec,
    source: &Arc<Source>,
    options: &UsageOptions,
    go_on: &mut dyn FnMut(&UsageCounts) -> bool,
) -> Result<Option<UsageCounts>> {
    let mut counts = UsageCounts {
        plain: Usage::new(codec.codes()),
        crops: Usage::new(codec.codes()),
    };
    let mut loading = plain(options.size, options.threads);
    for batch in Loader::start(source, loading, 0)? {
        count_batch(codec, &batch?, &mut counts.plain)?;
        if !go_on(&counts) {
            return Ok(None);
        }
    }
    loading.order = Order::Shuffled {
        seed: options.seed ^ CROPS,
        augment: options.augment,
    };
    let wanted = options.tokens_per_code * codec.codes() as u64;
    let mut tokens = 0;
    let mut crops = Loader::start(source, loading, 0)?;
    while tokens < wanted {
        let Some(batch) = crops.next() else { break };
        tokens += count_batch(codec, &batch?, &mut counts.crops)?;
        if !go_on(&counts) {
            return Ok(None);
        }
    }
    Ok(Some(counts))
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
        let options = UsageOptions {
            size: data.eval_size,
            augment: of_size(augment(data), data.size, data.eval_size),
            seed: self.config.run.seed,
            tokens_per_code: self.config.watch.usage_tokens_per_code,
            threads: data.workers,
        };
        let wanted = options.tokens_per_code * codec.codes() as u64;
        let mut said = 0;
        let mut go_on = |counts: &UsageCounts| {
            let tokens = counts.crops.tokens();
            let tenths = NOTES * tokens / wanted.max(1);
            if tenths > said {
                said = tenths;
                progress.note(&format!(
                    "counting used entries: {} % of {wanted} tokens, {:.2} % used",
                    (100 * tokens / wanted).min(100),
                    100.0 * counts.crops.share()
                ));
            }
            !progress.stop_requested()
        };
        let Some(counts) = count_usage(codec, &self.source, &options, &mut go_on)? else {
            return Ok(None);
        };
        counts.write(&self.out.join("usage.safetensors"))?;
        Ok(Some(counts.report()))
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
