//! Training pictures: what a batch holds depends on the seed and its number alone.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use image::{Rgb, RgbImage};
use vqlc_format::order::{Sampler, Shard};
use vqlc_model::image::{Fit, Preprocessing, ReadOptions, Views, read};
use vqlc_train::data::{Augment, Batch, Loader, LoaderOptions, Order, Pictures, Source};

/// Pictures of several sizes, every pixel of one different from its neighbours.
fn write_picture(path: &Path, number: u32) {
    let picture = RgbImage::from_fn(20 + 3 * number, 24, |x, y| {
        Rgb([number * 10, x * 3, y * 5].map(|v| v as u8))
    });
    picture.save(path).unwrap();
}

fn folder(readable: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..readable {
        write_picture(&dir.path().join(format!("{number:02}.png")), number);
    }
    dir
}

fn source(dir: &Path, cache: u64) -> Arc<Source> {
    Source::new(Pictures::scan(dir, false).unwrap(), cache)
}

fn shuffled(batch: usize, threads: usize) -> LoaderOptions {
    LoaderOptions {
        size: 16,
        batch,
        order: Order::Shuffled {
            seed: 11,
            augment: Augment {
                max_scale: 1.5,
                flip: true,
            },
        },
        threads,
        ahead: 2,
    }
}

fn take(source: &Arc<Source>, options: LoaderOptions, first: u64, count: usize) -> Vec<Batch> {
    let loader = Loader::start(source, options, first).unwrap();
    loader.take(count).map(Result::unwrap).collect()
}

#[test]
fn threads_caches_and_interruptions_change_nothing() {
    let dir = folder(7);
    let expected = take(&source(dir.path(), 1 << 20), shuffled(4, 1), 0, 9);
    assert!(expected.iter().all(|b| b.pixels.len() == 4 * 3 * 16 * 16));
    for (threads, cache, ahead) in [(3, 0, 1), (2, 4000, 5), (5, 1 << 20, 1)] {
        let options = LoaderOptions {
            ahead,
            ..shuffled(4, threads)
        };
        let source = source(dir.path(), cache);
        assert_eq!(take(&source, options, 0, 9), expected);
        // A second pass over the same source finds pictures in memory.
        assert_eq!(take(&source, options, 5, 4), expected[5..]);
    }
    let mut loader = Loader::start(&source(dir.path(), 0), shuffled(4, 2), 3).unwrap();
    assert_eq!(loader.position(), 3);
    loader.next().unwrap().unwrap();
    assert_eq!(loader.position(), 4);
}

#[test]
fn an_epoch_shows_every_picture_once_and_crops_differ_between_epochs() {
    let dir = folder(5);
    // More in a batch than there are pictures.
    let batches = take(&source(dir.path(), 0), shuffled(8, 2), 0, 5);
    let samples: Vec<(usize, &[f32])> = batches
        .iter()
        .flat_map(|b| {
            let pixels = b.pixels.chunks_exact(3 * 16 * 16);
            b.pictures.iter().copied().zip(pixels)
        })
        .collect();
    let order = Sampler::new(5, 11, Shard::whole());
    for (epoch, samples) in samples.chunks_exact(5).enumerate() {
        let found: Vec<u64> = samples.iter().map(|(picture, _)| *picture as u64).collect();
        let expected: Vec<u64> = order.epoch(epoch as u64, 0).collect();
        assert_eq!(found, expected, "epoch {epoch}");
    }
    let of_first: Vec<&[f32]> = samples.iter().filter(|s| s.0 == 0).map(|s| s.1).collect();
    assert_eq!(of_first.len(), 8);
    // The second channel rises from left to right unless mirrored.
    let mirrored = |pixels: &&&[f32]| pixels[256] > pixels[256 + 15];
    let count = of_first.iter().filter(mirrored).count();
    assert!((1..8).contains(&count), "{count} of 8 are mirrored");
    assert_ne!(of_first[0], of_first[1]);
    assert!(samples.iter().all(|s| s.1.iter().all(|v| v.abs() <= 1.0)));
}

#[test]
fn without_flips_the_crops_stay() {
    let dir = folder(3);
    let with = take(&source(dir.path(), 0), shuffled(6, 1), 0, 2);
    let mut options = shuffled(6, 1);
    if let Order::Shuffled { augment, .. } = &mut options.order {
        augment.flip = false;
    }
    let without = take(&source(dir.path(), 0), options, 0, 2);
    let (mut same, mut mirrored) = (0, 0);
    for (a, b) in with.iter().zip(&without) {
        for (a, b) in a.pixels.chunks(16).zip(b.pixels.chunks(16)) {
            same += usize::from(a == b);
            mirrored += usize::from(a != b && a.iter().eq(b.iter().rev()));
        }
    }
    assert!(same > 0 && mirrored > 0);
    assert_eq!(same + mirrored, 2 * 6 * 3 * 16);
}

#[test]
fn what_cannot_be_read_gives_its_slot_to_the_next_and_is_listed() {
    let dir = folder(6);
    fs::write(dir.path().join("03.png"), b"no picture").unwrap();
    let whole = source(dir.path(), 0);
    let batches = take(&whole, shuffled(6, 2), 0, 2);
    let order: Vec<u64> = Sampler::new(6, 11, Shard::whole()).epoch(0, 0).collect();
    let bad = order.iter().position(|&p| p == 3).unwrap();
    let mut expected = order.clone();
    expected[bad] = order[(bad + 1) % 6];
    let found: Vec<u64> = batches[0].pictures.iter().map(|&p| p as u64).collect();
    assert_eq!(found, expected);
    let skipped = whole.skipped();
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].name, Path::new("03.png"));
    assert!(!skipped[0].reason.is_empty());
}

#[test]
fn nothing_readable_is_an_error_and_the_end() {
    let dir = folder(0);
    for name in ["a.png", "b.jpg"] {
        fs::write(dir.path().join(name), b"no picture").unwrap();
    }
    let source = source(dir.path(), 0);
    let mut loader = Loader::start(&source, shuffled(2, 3), 0).unwrap();
    let error = loader.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("none of its 2 pictures"), "{error}");
    assert!(loader.next().is_none());
    assert_eq!(source.skipped().len(), 2);
}

#[test]
fn a_plain_pass_shows_each_picture_once_as_the_tokenizer_sees_it() {
    let dir = folder(7);
    fs::write(dir.path().join("02.png"), b"no picture").unwrap();
    let rule = Preprocessing::new(Fit::Crop { size: 16 }, Views::Center, 1, [255; 3]).unwrap();
    for threads in [1, 3] {
        let options = LoaderOptions {
            order: Order::Plain,
            ..shuffled(4, threads)
        };
        let source = source(dir.path(), 0);
        let batches = take(&source, options, 0, 100);
        let names: Vec<usize> = batches.iter().flat_map(|b| b.pictures.clone()).collect();
        assert_eq!(names, [0, 1, 3, 4, 5, 6]);
        assert_eq!(batches.iter().map(|b| b.number).collect::<Vec<_>>(), [0, 1]);
        let pixels: Vec<f32> = batches.iter().flat_map(|b| b.pixels.clone()).collect();
        for (index, pixels) in names.iter().zip(pixels.chunks_exact(3 * 16 * 16)) {
            let path = dir.path().join(source.pictures().name(*index));
            let rgb = read(&path, &ReadOptions::default()).unwrap();
            assert_eq!(rule.prepare(&rgb).unwrap().views[0], pixels);
        }
        assert_eq!(source.skipped().len(), 1);
    }
}

#[test]
fn pictures_are_sorted_by_the_bytes_of_their_paths() {
    let dir = folder(1);
    fs::create_dir_all(dir.path().join("b")).unwrap();
    // Names that a sort by path components, or one that ignores case, would place otherwise.
    for name in ["b/z.png", "b-c.png", "B.PNG", "b.png"] {
        fs::copy(dir.path().join("00.png"), dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("b/notes.txt"), b"text").unwrap();
    let pictures = Pictures::scan(dir.path(), false).unwrap();
    let names: Vec<&str> = (0..pictures.count())
        .map(|i| pictures.name(i).to_str().unwrap())
        .collect();
    assert_eq!(names, ["00.png", "B.PNG", "b-c.png", "b.png", "b/z.png"]);
    assert_eq!(pictures.passed_over(), 1);
    let again = Pictures::scan(dir.path(), false).unwrap();
    assert_eq!(again.digest(), pictures.digest());
    fs::rename(dir.path().join("b.png"), dir.path().join("c.png")).unwrap();
    let renamed = Pictures::scan(dir.path(), false).unwrap();
    assert_eq!(renamed.count(), 5);
    assert_ne!(renamed.digest(), pictures.digest());
}

#[test]
fn folders_and_options_that_cannot_be_are_errors() {
    let empty = tempfile::tempdir().unwrap();
    assert!(Pictures::scan(empty.path(), false).is_err());
    assert!(Pictures::scan(&empty.path().join("nowhere"), false).is_err());
    let dir = folder(1);
    let source = source(dir.path(), 0);
    let good = shuffled(2, 1);
    let scaled = |max_scale| LoaderOptions {
        order: Order::Shuffled {
            seed: 1,
            augment: Augment {
                max_scale,
                flip: false,
            },
        },
        ..good
    };
    let bad = [
        LoaderOptions { size: 0, ..good },
        LoaderOptions { batch: 0, ..good },
        LoaderOptions { threads: 0, ..good },
        LoaderOptions { ahead: 0, ..good },
        scaled(0.9),
        scaled(f64::NAN),
        scaled(f64::INFINITY),
    ];
    for options in bad {
        assert!(Loader::start(&source, options, 0).is_err(), "{options:?}");
    }
    assert!(Loader::start(&source, good, u64::MAX).is_err());
    assert!(Loader::start(&source, scaled(1.0), 0).is_ok());
}
