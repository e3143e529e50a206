//! Goes through the pictures once and keeps what the page shows.

use std::path::Path;

use anyhow::ensure;
use vqlc_format::pack::bits_for;
use vqlc_model::{Tokenizer, image::Rgb};
use vqlc_train::{
    data::Pictures,
    inspect::{Replaced, replace},
    measure::{CodecPairs, Evaluation, Judges, PairBatch, Pairs as _, PictureScores, evaluate},
    metrics::Usage,
};

use crate::{
    codecs::Tool,
    interrupt,
    rate::{CURVE, RatePoint, Rates},
    report::{Reporter, shown},
};

/// Ranks of the entries that tokens are replaced by; the paper's.
const RANKS: [usize; 4] = [1, 50, 100, 1000];
/// Pictures whose tokens are replaced at most.
const REPLACED: u64 = 32;
/// Of these, how many are shown.
pub(super) const REPLACED_SHOWN: usize = 3;

/// A picture and what became of it.
pub(super) struct Example {
    /// Its name, fit to be shown.
    pub(super) name: String,
    pub(super) original: Rgb,
    pub(super) made: Rgb,
    pub(super) scores: PictureScores,
}

/// What is to be shown of the pictures of a folder.
pub(super) struct Wanted<'a> {
    pub(super) folder: &'a Path,
    /// Side of the crops, pixels.
    pub(super) size: usize,
    /// Names of pictures to show; where there are none, so many from the whole folder.
    pub(super) names: &'a [String],
    pub(super) pictures: u64,
    /// How many of the worst.
    pub(super) worst: usize,
    /// Other codecs to measure beside.
    pub(super) tools: &'a [Tool],
}

/// What was found.
pub(super) struct Gathered {
    pub(super) evaluation: Evaluation,
    /// What the other codecs come to.
    pub(super) others: Vec<RatePoint>,
    pub(super) usage: Usage,
    pub(super) chosen: Vec<Example>,
    /// By PSNR, the worst one first.
    pub(super) worst: Vec<Example>,
    pub(super) replaced: Vec<Replaced>,
    /// The names of the pictures that `replaced` shows.
    pub(super) replaced_names: Vec<String>,
}

/// Measures the pictures and chooses among them; `None` where it was interrupted.
pub(super) fn gather(
    tokenizer: &Tokenizer,
    judges: &Judges,
    wanted: &Wanted,
    threads: usize,
    reporter: &Reporter,
) -> anyhow::Result<Option<Gathered>> {
    check_names(wanted)?;
    let mut pairs = CodecPairs::new(tokenizer, wanted.folder, wanted.size, threads)?;
    let mut picker = Picker::new(wanted, pairs.total(), tokenizer.codebook_size() as usize);
    let progress = reporter.progress("measuring", pairs.total(), 0);
    // Of curves there are PSNR and SSIM only.
    let unjudged = Judges::none(tokenizer.device());
    let mut rates = Rates::new(wanted.tools, &CURVE, &unjudged)?;
    let mut failure = None;
    let evaluation = evaluate(&mut pairs, judges, &mut |batch, scores| {
        picker.add(batch, scores)?;
        let whole = if wanted.tools.is_empty() {
            Ok(true)
        } else {
            rates.add_pairs(batch, bits_for(tokenizer.codebook_size()))
        };
        progress.advance(batch.names.len() as u64, 0);
        Ok(whole.unwrap_or_else(|err| {
            failure = Some(err);
            false
        }) && !interrupt::requested())
    });
    progress.finish();
    if let Some(err) = failure {
        return Err(err);
    }
    let Some(evaluation) = evaluation? else {
        return Ok(None);
    };
    reporter.detail("replacing tokens by neighbours of their entries");
    let replaced = replace(
        tokenizer,
        &picker.originals,
        &picker.ids,
        wanted.size,
        &RANKS,
        REPLACED_SHOWN,
        &mut || !interrupt::requested(),
    )?;
    let others = rates.points()?;
    Ok(replaced.map(|replaced| Gathered {
        evaluation,
        others,
        usage: picker.usage,
        chosen: picker.chosen,
        worst: picker.worst,
        replaced,
        replaced_names: picker.replaced_names,
    }))
}

/// That the pictures to show are there, before the work.
fn check_names(wanted: &Wanted) -> anyhow::Result<()> {
    if wanted.names.is_empty() {
        return Ok(());
    }
    let there = Pictures::scan(wanted.folder, true)?;
    for name in wanted.names {
        ensure!(
            (0..there.count()).any(|at| there.name(at) == Path::new(name)),
            "--show {name}: no picture of this name in {}; names are relative to it, as folder/name.jpg",
            wanted.folder.display()
        );
    }
    Ok(())
}

/// Sees all pictures pass by and keeps some.
struct Picker<'a> {
    wanted: &'a Wanted<'a>,
    total: u64,
    seen: u64,
    usage: Usage,
    chosen: Vec<Example>,
    worst: Vec<Example>,
    /// Those whose tokens will be replaced, and these tokens, one picture after the other.
    originals: Vec<Rgb>,
    ids: Vec<u32>,
    replaced_names: Vec<String>,
}

impl<'a> Picker<'a> {
    fn new(wanted: &'a Wanted<'a>, total: u64, entries: usize) -> Self {
        Self {
            wanted,
            total,
            seen: 0,
            usage: Usage::new(entries),
            chosen: Vec::new(),
            worst: Vec::new(),
            originals: Vec::new(),
            ids: Vec::new(),
            replaced_names: Vec::new(),
        }
    }

    fn add(&mut self, batch: &PairBatch, scores: &[PictureScores]) -> vqlc_train::Result<()> {
        for (at, scores) in scores.iter().enumerate() {
            let ids = &batch.ids[at];
            self.usage.add(ids)?;
            let name = &batch.names[at];
            let example = || Example {
                name: shown(name.as_bytes()),
                original: batch.originals[at].clone(),
                made: batch.made[at].clone(),
                scores: *scores,
            };
            let chosen = if self.wanted.names.is_empty() {
                spread(self.seen, self.total, self.wanted.pictures)
            } else {
                self.wanted.names.contains(name)
            };
            if chosen {
                self.chosen.push(example());
            }
            let worse = |other: &Example| other.scores.psnr > scores.psnr;
            if self.worst.len() < self.wanted.worst || self.worst.last().is_some_and(worse) {
                // Of equal ones the first stays before the others.
                let place = self.worst.partition_point(|other| !worse(other));
                self.worst.insert(place, example());
                self.worst.truncate(self.wanted.worst);
            }
            if spread(self.seen, self.total, REPLACED) {
                if self.replaced_names.len() < REPLACED_SHOWN {
                    self.replaced_names.push(shown(name.as_bytes()));
                }
                self.originals.push(batch.originals[at].clone());
                self.ids.extend(ids);
            }
            self.seen += 1;
        }
        Ok(())
    }
}

/// Whether number `at` of `total` is one of `count` that lie evenly among them.
fn spread(at: u64, total: u64, count: u64) -> bool {
    let before = |at: u64| u128::from(at) * u128::from(count) / u128::from(total.max(1));
    at < total && (count >= total || before(at + 1) > before(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_spread() {
        let chosen = |total, count| -> Vec<u64> {
            (0..total).filter(|&at| spread(at, total, count)).collect()
        };
        assert_eq!(chosen(10, 3), [3, 6, 9]);
        assert_eq!(chosen(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(chosen(2, 9), [0, 1]);
        assert_eq!(chosen(7, 0), [] as [u64; 0]);
        for count in 1..=20 {
            assert_eq!(chosen(20, count).len() as u64, count);
        }
    }
}
