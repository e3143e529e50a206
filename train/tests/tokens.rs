//! Token files as a training set: nothing twice, nothing left out, and a run that goes on where it stood.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use vqlc_format::{
    Digest, Digests, Grid, Picture, Spec, TokenFile, Writer,
    order::{Shard, Tail},
    split,
};
use vqlc_train::{
    Error,
    tokens::{TokenBatch, TokenLoader, TokenOptions, TokenPosition, TokenSet, ViewChoice},
};

const PICTURES: u64 = 53;
const IDS: usize = 6;

fn spec() -> Spec {
    Spec {
        codebook_size: 100_000,
        grid: Grid::Fixed { rows: 2, cols: 3 },
        views: vec!["center".into(), "flip".into()],
        records_per_block: Some(8),
        digests: Digests {
            codebook: Digest([1; 32]),
            encoder: Digest([2; 32]),
            ..Digests::default()
        },
        preprocessing: b"{}".to_vec(),
        classes: Some(vec![b"a".to_vec(), b"b".to_vec()]),
        names: false,
        sizes: false,
    }
}

fn write(path: &Path, spec: &Spec, pictures: u64) {
    let mut writer = Writer::create(path, spec, Digest([9; 32]), false).unwrap();
    for picture in 0..pictures {
        let count = (spec.views.len() * IDS) as u64;
        let ids: Vec<u32> = (0..count)
            .map(|i| ((picture * count + i) * 7919 % 100_000) as u32)
            .collect();
        let record = Picture {
            name: b"",
            label: spec.classes.is_some().then_some((picture % 2) as u32),
            width: 0,
            height: 0,
            rows: 2,
            cols: 3,
            ids: &ids,
        };
        writer.push(picture, &record).unwrap();
    }
    writer.finish(pictures).unwrap();
}

/// A file of all pictures, and the same in two.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Self { folder };
        write(&files.path("all.vqt"), &spec(), PICTURES);
        let parts = [files.path("1.vqt"), files.path("2.vqt")];
        split(&files.path("all.vqt"), &parts, false).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set(&self, names: &[&str]) -> Arc<TokenSet> {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        Arc::new(TokenSet::open(&paths).unwrap())
    }
}

fn options(batch: usize, shard: Shard) -> TokenOptions {
    TokenOptions {
        batch,
        seed: 5,
        shard,
        views: ViewChoice::Drawn,
        whole_batches: false,
        ahead: 2,
        threads: 2,
    }
}

/// The batches of the first `epochs` epochs.
fn epochs(set: &Arc<TokenSet>, options: TokenOptions, epochs: u64) -> Vec<TokenBatch> {
    let mut loader = TokenLoader::start(set, options, None).unwrap();
    let mut batches = Vec::new();
    loop {
        let batch = loader.next_batch().unwrap();
        if batch.epoch == epochs {
            return batches;
        }
        batches.push(batch.clone());
    }
}

#[test]
fn ranks_take_every_picture_of_an_epoch_once_with_its_own_ids() {
    let files = Files::new();
    let (set, file) = (
        files.set(&["1.vqt", "2.vqt"]),
        TokenFile::open(&files.path("all.vqt")).unwrap(),
    );
    assert_eq!((set.pictures(), set.grid()), (PICTURES, (2, 3)));
    let mut orders = Vec::new();
    for world in [1, 2, 4] {
        let mut seen = BTreeMap::new();
        for rank in 0..world {
            let shard = Shard::new(rank, world, Tail::Keep).unwrap();
            for batch in epochs(&set, options(5, shard), 3) {
                assert!(batch.pictures.len() <= 5);
                assert_eq!(batch.ids.len(), batch.pictures.len() * IDS);
                let samples = batch.pictures.iter().zip(batch.ids.chunks_exact(IDS));
                for ((&picture, ids), label) in samples.zip(&batch.labels) {
                    assert_eq!(*label, Some((picture % 2) as u32));
                    let again = seen.insert((batch.epoch, picture), ids.to_vec());
                    assert_eq!(again, None, "picture {picture} twice in {}", batch.epoch);
                }
            }
        }
        assert_eq!(seen.len() as u64, 3 * PICTURES);
        let mut views = [0, 0];
        for (&(_, picture), ids) in &seen {
            let mut expected = Vec::new();
            let view = (0..2).find(|view| {
                file.get(2 * picture + view, &mut expected).unwrap();
                expected == *ids
            });
            views[view.unwrap() as usize] += 1;
        }
        assert!(views.iter().all(|&count| count > 50), "{views:?}");
        // Views are drawn anew each epoch.
        assert!((0..PICTURES).any(|p| seen[&(0, p)] != seen[&(1, p)]));
        orders.push(seen);
    }
    // What a picture shows in an epoch does not depend on the ranks.
    assert!(orders.iter().all(|seen| *seen == orders[0]));
}

#[test]
fn one_file_and_its_parts_are_the_same_set() {
    let files = Files::new();
    let all = epochs(&files.set(&["all.vqt"]), options(7, Shard::whole()), 2);
    let parts = files.set(&["1.vqt", "2.vqt"]);
    assert_eq!(all, epochs(&parts, options(7, Shard::whole()), 2));
    let whole = TokenOptions {
        whole_batches: true,
        views: ViewChoice::Always(1),
        ..options(7, Shard::whole())
    };
    let batches = epochs(&parts, whole, 1);
    assert_eq!(batches.len() as u64, PICTURES / 7);
    assert!(batches.iter().all(|batch| batch.pictures.len() == 7));
}

#[test]
fn a_run_goes_on_where_it_stood_and_in_no_other_data() {
    let files = Files::new();
    let set = files.set(&["1.vqt", "2.vqt"]);
    let options = options(6, Shard::new(1, 2, Tail::Keep).unwrap());
    // Within an epoch, at its end, and in the next.
    for taken in [0, 2, 5, 7] {
        let mut undisturbed = TokenLoader::start(&set, options, None).unwrap();
        for _ in 0..taken {
            undisturbed.next_batch().unwrap();
        }
        let kept = serde_json::to_string(undisturbed.position()).unwrap();
        let kept: TokenPosition = serde_json::from_str(&kept).unwrap();
        let mut resumed = TokenLoader::start(&set, options, Some(&kept)).unwrap();
        for _ in 0..9 {
            assert_eq!(
                undisturbed.next_batch().unwrap(),
                resumed.next_batch().unwrap()
            );
        }
        assert_eq!(undisturbed.position(), resumed.position());

        let other = TokenLoader::start(&files.set(&["all.vqt"]), options, Some(&kept));
        let message = other.err().unwrap().to_string();
        assert!(message.contains("was trained on"), "{message}");
        let seed = TokenOptions { seed: 6, ..options };
        let other = TokenLoader::start(&set, seed, Some(&kept)).err();
        assert!(matches!(other, Some(Error::Config(_))), "{other:?}");
    }
}

/// Where one rank's epoch is over, so is the whole run's: another rank, or another number of them, begins the next.
#[test]
fn the_end_of_an_epoch_is_the_same_for_every_rank() {
    let files = Files::new();
    let set = files.set(&["all.vqt"]);
    for (options, batches) in [
        (options(6, Shard::new(1, 2, Tail::Keep).unwrap()), 5),
        (
            TokenOptions {
                whole_batches: true,
                ..options(7, Shard::whole())
            },
            7,
        ),
    ] {
        let mut loader = TokenLoader::start(&set, options, None).unwrap();
        for _ in 0..batches {
            assert_eq!(loader.next_batch().unwrap().epoch, 0);
        }
        let position = loader.position().clone();
        assert_eq!((position.epoch, position.taken), (0, PICTURES));
        let other = TokenOptions {
            batch: 4,
            shard: Shard::whole(),
            ..options
        };
        let mut loader = TokenLoader::start(&set, other, Some(&position)).unwrap();
        assert_eq!(loader.next_batch().unwrap().epoch, 1);
    }
}

#[test]
fn what_is_not_there_is_not_gathered() {
    let files = Files::new();
    for names in [&["all.vqt"][..], &["1.vqt", "2.vqt"]] {
        let (set, mut ids) = (files.set(names), vec![0; IDS]);
        set.gather(&[(PICTURES - 1, 1)], &mut ids).unwrap();
        for wrong in [(0, 2), (PICTURES, 0), (u64::MAX, 1)] {
            let refused = set.gather(&[wrong], &mut ids).unwrap_err();
            assert!(matches!(refused, Error::Argument { .. }), "{refused:?}");
        }
        assert!(set.gather(&[(0, 0), (1, 0)], &mut ids).is_err());
    }
}

#[test]
fn files_that_do_not_go_together_are_named() {
    let files = Files::new();
    let open = |names: &[&str]| {
        let paths: Vec<PathBuf> = names.iter().map(|name| files.path(name)).collect();
        TokenSet::open(&paths).err().unwrap().to_string()
    };
    let mut other = spec();
    other.digests.codebook = Digest([7; 32]);
    write(&files.path("codebook.vqt"), &other, 3);
    let message = open(&["all.vqt", "codebook.vqt"]);
    assert!(
        message.contains("codebook.vqt: its codebook digest is 0707"),
        "{message}"
    );
    let other = Spec {
        classes: None,
        ..spec()
    };
    write(&files.path("classes.vqt"), &other, 3);
    let message = open(&["all.vqt", "classes.vqt"]);
    assert!(message.contains("its classes"), "{message}");
    let varying = Spec {
        grid: Grid::Varying,
        ..spec()
    };
    write(&files.path("varying.vqt"), &varying, 3);
    assert!(open(&["varying.vqt"]).contains("--fit crop"));
    write(&files.path("empty.vqt"), &spec(), 0);
    assert!(open(&["all.vqt", "empty.vqt"]).contains("no pictures"));
    assert!(open(&["gone.vqt"]).contains("gone.vqt"));
    assert!(open(&[]).contains("at least one"));

    let set = files.set(&["all.vqt"]);
    for wrong in [
        options(0, Shard::whole()),
        TokenOptions {
            whole_batches: true,
            ..options(54, Shard::whole())
        },
        TokenOptions {
            views: ViewChoice::Always(2),
            ..options(4, Shard::whole())
        },
    ] {
        let refused = TokenLoader::start(&set, wrong, None).err();
        assert!(matches!(refused, Some(Error::Config(_))), "{refused:?}");
    }
}

#[test]
fn a_damaged_file_ends_the_run_with_its_name() {
    let files = Files::new();
    let path = files.path("all.vqt");
    let mut bytes = std::fs::read(&path).unwrap();
    // The first block begins behind header and metadata; the index, labels and footer lie behind the last.
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let set = files.set(&["all.vqt"]);
    let mut loader = TokenLoader::start(&set, options(4, Shard::whole()), None).unwrap();
    let failure = (0..20).find_map(|_| loader.next_batch().err()).unwrap();
    assert!(matches!(failure, Error::Tokens { .. }), "{failure:?}");
    assert!(failure.to_string().contains("all.vqt"), "{failure}");
}
