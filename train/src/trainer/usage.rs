//! How much of the codebook is used by the training pictures (paper section 4.1).

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Progress, TokenizerTrainer, build::augment};
use crate::{
    Error, Result,
    data::{Augment, Batch, Loader, Order, Source, check},
    measure::{Codec, plain},
    metrics::{Usage, UsageShare, write_counts},
};

/// Says how far a long count is so many times.
const NOTES: f64 = 10.0;
/// Keeps the crops that are counted apart from those that were learnt from.
const CROPS: u64 = 0x0075_7361_6765;

/// Utilisation over the training pictures.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct UsageReport {
    /// One pass of centre crops.
    pub plain: UsageShare,
    /// Seeded crops, as many tokens an entry as was asked for.
    pub crops: UsageShare,
}

/// How pictures are gone through when ids are counted.
#[derive(Clone, Copy, Debug)]
pub struct UsageOptions {
    /// Side of the crops, pixels; a multiple of the codec's factor.
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

impl UsageOptions {
    /// Tokens of seeded crops in all.
    ///
    /// # Errors
    /// [`Error::Config`] for more than can be counted.
    pub fn wanted(&self, codes: usize) -> Result<u64> {
        let wanted = self.tokens_per_code.checked_mul(codes as u64);
        wanted.ok_or_else(|| {
            Error::Config(format!(
                "{} tokens for each of {codes} entries are more than can be counted",
                self.tokens_per_code
            ))
        })
    }
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
        write_counts(path, &[("plain", &self.plain), ("crops", &self.crops)])
    }
}

/// Counts the ids of the pictures of `source`. `go_on` is told the counts after each batch; where it answers no, the outcome is `None`.
///
/// # Errors
/// [`Error::Config`] for sizes and scales of which no crops can be cut, and for more tokens than can be counted; pictures, and tensor
/// operations.
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
    let wanted = options.wanted(codec.codes())?;
    let mut loading = plain(options.size, options.threads);
    let crops = Order::Shuffled {
        seed: options.seed ^ CROPS,
        augment: options.augment,
    };
    if wanted > 0 {
        check(options.size as u32, &crops)?;
    }
    for batch in Loader::start(source, loading, 0)? {
        count_batch(codec, &batch?, &mut counts.plain)?;
        if !go_on(&counts) {
            return Ok(None);
        }
    }
    if wanted == 0 {
        return Ok(Some(counts));
    }
    loading.order = crops;
    let mut tokens = 0;
    for batch in Loader::start(source, loading, 0)? {
        tokens += count_batch(codec, &batch?, &mut counts.crops)?;
        let more = go_on(&counts);
        if tokens >= wanted {
            break;
        }
        if !more {
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
        let wanted = options.wanted(codec.codes())?;
        let mut said = 0;
        let mut go_on = |counts: &UsageCounts| {
            let tokens = counts.crops.tokens();
            let done = tokens as f64 / wanted.max(1) as f64;
            let tenths = (NOTES * done) as u64;
            if tenths > said {
                said = tenths;
                progress.note(&format!(
                    "counting used entries: {} % of {wanted} tokens, {:.2} % used",
                    (100.0 * done).min(100.0) as u64,
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
