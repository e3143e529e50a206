//! Goes through the pictures once and keeps what the page shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Context as _;
use vqlc_model::{Tokenizer, image::Rgb};
use vqlc_train::{
    data::Pictures,
    inspect::{Replaced, replace},
    measure::{CodecPairs, Evaluation, Judges, PairBatch, Pairs as _, PictureScores},
};

use crate::{
    codecs::Tool,
    interrupt,
    rate::{self, CURVE, RatePoint, Rates},
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
    let mut pairs = CodecPairs::new(tokenizer, wanted.folder, wanted.size, threads)?;
    let named = named(wanted, pairs.pictures())?;
    let mut picker = Picker::new(wanted, named, pairs.total());
    // Of curves there are PSNR and SSIM only.
    let unjudged = Judges::none(tokenizer.device());
    let mut rates = Rates::new(wanted.tools, &CURVE, &unjudged)?;
    let also = &mut |batch: &PairBatch, scores: &[PictureScores]| picker.add(batch, scores);
    let found = rate::measure(&mut pairs, judges, &mut rates, reporter, also)?;
    let Some(evaluation) = found else {
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
    // Where all are shown there is nothing to add.
    let all_shown = picker.chosen.len() as u64 == evaluation.comparison.pictures;
    Ok(replaced.map(|replaced| Gathered {
        evaluation,
        others,
        chosen: picker.chosen,
        worst: if all_shown { Vec::new() } else { picker.worst },
        replaced,
        replaced_names: picker.replaced_names,
    }))
}

/// The numbers of the pictures that were named, before the work.
fn named(wanted: &Wanted, there: &Pictures) -> anyhow::Result<BTreeSet<u64>> {
    let numbers: BTreeMap<&Path, u64> = (0..there.count())
        .map(|at| (there.name(at), at as u64))
        .collect();
    let number = |name: &String| {
        numbers.get(Path::new(name)).copied().with_context(|| {
            format!(
                "--show {name}: no picture of this name in {}; names are relative to it, as folder/name.jpg",
                wanted.folder.display()
            )
        })
    };
    wanted.names.iter().map(number).collect()
}

/// Sees all pictures pass by and keeps some.
struct Picker<'a> {
    wanted: &'a Wanted<'a>,
    /// Numbers of pictures to show; where there are none, an even choice.
    named: BTreeSet<u64>,
    total: u64,
    chosen: Vec<Example>,
    worst: Vec<Example>,
    /// Those whose tokens will be replaced, and these tokens, one picture after the other.
    originals: Vec<Rgb>,
    ids: Vec<u32>,
    replaced_names: Vec<String>,
}

impl<'a> Picker<'a> {
    fn new(wanted: &'a Wanted<'a>, named: BTreeSet<u64>, total: u64) -> Self {
        Self {
            wanted,
            named,
            total,
            chosen: Vec::new(),
            worst: Vec::new(),
            originals: Vec::new(),
            ids: Vec::new(),
            replaced_names: Vec::new(),
        }
    }

    fn add(&mut self, batch: &PairBatch, scores: &[PictureScores]) -> vqlc_train::Result<()> {
        for (at, scores) in scores.iter().enumerate() {
            let (number, name) = (batch.numbers[at], &batch.names[at]);
            let example = || Example {
                name: shown(name.as_bytes()),
                original: batch.originals[at].clone(),
                made: batch.made[at].clone(),
                scores: *scores,
            };
            let chosen = if self.named.is_empty() {
                (self.chosen.len() as u64) < due(number, self.total, self.wanted.pictures)
            } else {
                self.named.contains(&number)
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
            if (self.originals.len() as u64) < due(number, self.total, REPLACED) {
                if self.replaced_names.len() < REPLACED_SHOWN {
                    self.replaced_names.push(shown(name.as_bytes()));
                }
                self.originals.push(batch.originals[at].clone());
                self.ids.extend(&batch.ids[at]);
            }
        }
        Ok(())
    }
}

/// How many of `count` that lie evenly among `total` should be chosen when number `at` is seen. Where one could not be read the next one that
/// can takes its place, and the first one that can is always due if any is.
fn due(at: u64, total: u64, count: u64) -> u64 {
    let due = u128::from(at + 1) * u128::from(count);
    due.div_ceil(u128::from(total.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those chosen where only `readable` can be read.
    fn chosen(total: u64, count: u64, readable: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut chosen = Vec::new();
        for at in (0..total).filter(|&at| readable(at)) {
            if (chosen.len() as u64) < due(at, total, count) {
                chosen.push(at);
            }
        }
        chosen
    }

    #[test]
    fn an_even_spread() {
        let all = |total, count| chosen(total, count, |_| true);
        assert_eq!(all(10, 3), [0, 3, 6]);
        assert_eq!(all(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(all(2, 9), [0, 1]);
        assert_eq!(all(7, 0), [] as [u64; 0]);
        for count in 1..=20 {
            assert_eq!(all(20, count).len() as u64, count);
        }
    }

    #[test]
    fn unreadable_ones_are_made_up_for() {
        assert_eq!(chosen(10, 3, |at| at % 3 != 0), [1, 4, 7]);
        assert_eq!(chosen(100, 6, |at| at == 0 || at == 50), [0, 50]);
        assert_eq!(chosen(100, 6, |at| at == 99), [99]);
    }
}
