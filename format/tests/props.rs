//! Properties over codebook size, grid, views, block size and count: what goes in comes out, and no way of writing a set of
//! pictures (at once, resumed, in shards that are merged, split and merged again) changes a byte.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{JOB, Made, digests, expect_whole};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tempfile::TempDir;
use vqlc_format::{Grid, Spec, TokenFile, Writer, journal_path, merge, partial_path, split};

fn codebook_size() -> impl Strategy<Value = u32> {
    prop_oneof![
        1u32..=9,
        Just(1024),
        Just(100_000),
        Just(u32::MAX),
        (1u32..=31).prop_map(|bits| 1 << bits),
        1u32..=u32::MAX,
    ]
}

fn grid() -> impl Strategy<Value = Grid> {
    prop_oneof![
        2 => (1u32..=9, 1u32..=9).prop_map(|(rows, cols)| Grid::Fixed { rows, cols }),
        1 => Just(Grid::Varying),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let texts = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 1..5);
    let columns = (any::<bool>(), any::<bool>(), prop::option::of(texts));
    let block = prop::option::of(1u32..6);
    (codebook_size(), grid(), 1u32..4, block, columns).prop_map(
        |(codebook_size, grid, views, block, (names, sizes, classes))| Spec {
            codebook_size,
            grid,
            views: (0..views).map(|view| format!("view {view}")).collect(),
            records_per_block: block.map(|pictures| pictures * views),
            digests: digests(),
            preprocessing: vec![1, 2, 3],
            classes,
            names,
            sizes,
        },
    )
}

fn made() -> impl Strategy<Value = Made> {
    (spec(), 0usize..40, any::<u64>())
        .prop_map(|(spec, count, seed)| Made::random(spec, count, seed))
}

/// Writes each range of the pictures to a file of its own.
fn shards(folder: &Path, made: &Made, cuts: &[usize]) -> Vec<PathBuf> {
    let mut start = 0;
    let ends = cuts.iter().copied().chain([made.pictures.len()]);
    ends.enumerate()
        .map(|(number, end)| {
            let path = folder.join(format!("shard{number}.vqt"));
            let shard = Made {
                spec: made.spec.clone(),
                pictures: made.pictures[start..end].to_vec(),
            };
            shard.write(&path);
            start = end;
            path
        })
        .collect()
}

/// Up to three sorted places at which to cut `count` pictures.
fn cuts(count: usize, places: &[prop::sample::Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = places.iter().map(|place| place.index(count + 1)).collect();
    cuts.sort_unstable();
    cuts
}

/// The same cases in every run.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_goes_in_comes_out(made in made()) {
        let bytes = made.to_bytes();
        let file = TokenFile::new(bytes.as_slice()).unwrap();
        expect_whole(&file, &made);
        prop_assert_eq!(made.to_bytes(), bytes.as_slice());
    }

    #[test]
    fn the_summary_tells_the_truth(made in made()) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("made.vqt");
        let summary = made.write(&path);
        let file = TokenFile::open(&path).unwrap();
        prop_assert_eq!(summary.records, file.len());
        prop_assert_eq!(summary.pictures, file.pictures());
        prop_assert_eq!(summary.file_len, fs::metadata(&path).unwrap().len());
        prop_assert_eq!(summary.content, file.content());
        let mut ids: Vec<u32> = made.pictures.iter().flat_map(|p| p.ids.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(summary.distinct_ids as usize, ids.len());
        let bits = u64::from(file.bits());
        let packed = made.pictures.iter().map(|p| {
            let each = u64::from(p.rows) * u64::from(p.cols);
            made.views() as u64 * (each * bits).div_ceil(8)
        });
        prop_assert_eq!(summary.id_bytes, packed.sum::<u64>());
        prop_assert!(!partial_path(&path).exists() && !journal_path(&path).exists());
    }

    #[test]
    fn shards_merge_to_the_same_bytes(made in made(), places in prop::collection::vec(any::<prop::sample::Index>(), 0..3)) {
        let folder = TempDir::new().unwrap();
        let inputs = shards(folder.path(), &made, &cuts(made.pictures.len(), &places));
        let merged = folder.path().join("merged.vqt");
        let summary = merge(&inputs, &merged, false).unwrap();
        prop_assert_eq!(fs::read(&merged).unwrap(), made.to_bytes());
        prop_assert_eq!(summary.pictures, made.pictures.len() as u64);
    }

    #[test]
    fn split_parts_merge_to_the_same_bytes(made in made(), parts in 1usize..4) {
        let folder = TempDir::new().unwrap();
        let whole = folder.path().join("whole.vqt");
        made.write(&whole);
        let outputs: Vec<PathBuf> = (0..parts).map(|n| folder.path().join(format!("part{n}.vqt"))).collect();
        let summaries = split(&whole, &outputs, false).unwrap();
        // The parts are contiguous, in order, and each is what a writer of its pictures alone writes.
        let mut start = 0;
        for (summary, output) in summaries.iter().zip(&outputs) {
            let end = start + summary.pictures as usize;
            let part = Made { spec: made.spec.clone(), pictures: made.pictures[start..end].to_vec() };
            prop_assert_eq!(fs::read(output).unwrap(), part.to_bytes());
            start = end;
        }
        prop_assert_eq!(start, made.pictures.len());
        let merged = folder.path().join("merged.vqt");
        merge(&outputs, &merged, false).unwrap();
        prop_assert_eq!(fs::read(&merged).unwrap(), fs::read(&whole).unwrap());
    }

    /// Stops after any number of pictures, by asking for it or as a killed process does: its files are copied at that moment
    /// and continued elsewhere. Every third position is a picture that could not be read.
    #[test]
    fn a_resumed_job_writes_the_same_bytes(made in made(), stops in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..4)) {
        let (folder, undisturbed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let position = |picture: usize| (picture + picture / 2) as u64;
        let total = position(made.pictures.len()) + 2;
        let push = |writer: &mut Writer, until: usize| {
            for (number, picture) in made.pictures[..until].iter().enumerate() {
                if position(number) >= writer.next_position() {
                    writer.push(position(number), &picture.as_picture()).unwrap();
                }
            }
        };
        let whole = undisturbed.path().join("made.vqt");
        let mut writer = Writer::create(&whole, &made.spec, JOB, false).unwrap();
        push(&mut writer, made.pictures.len());
        let expected = writer.finish(total).unwrap();

        let mut places: Vec<(usize, bool)> =
            stops.iter().map(|(place, kill)| (place.index(made.pictures.len() + 1), *kill)).collect();
        places.sort_unstable();
        let mut path = folder.path().join("0.vqt");
        let mut writer = Writer::create(&path, &made.spec, JOB, false).unwrap();
        for (number, (until, kill)) in places.into_iter().enumerate() {
            push(&mut writer, until);
            if kill {
                let next = folder.path().join(format!("{}.vqt", number + 1));
                fs::copy(partial_path(&path), partial_path(&next)).unwrap();
                fs::copy(journal_path(&path), journal_path(&next)).unwrap();
                path = next;
            } else {
                writer.suspend().unwrap();
            }
            writer = Writer::resume(&path, &made.spec, JOB, false).unwrap();
            let pushed = (0..made.pictures.len()).filter(|&n| position(n) < writer.next_position()).count();
            prop_assert!(pushed <= until);
            // Suspended, everything pushed is kept.
            prop_assert!(kill || pushed == until);
            prop_assert_eq!(writer.skipped_positions(), writer.next_position() - pushed as u64);
        }
        push(&mut writer, made.pictures.len());
        let summary = writer.finish(total).unwrap();
        prop_assert_eq!(fs::read(&path).unwrap(), fs::read(&whole).unwrap());
        prop_assert_eq!(summary, expected);
    }
}
