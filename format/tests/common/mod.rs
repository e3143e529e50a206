//! What the suites share: a generator, small files of each kind with all that they hold, and comparing a reader with it.
// Each test binary uses its own part of this, and none can be reached from outside.
#![allow(dead_code, unreachable_pub)]

pub mod render;
pub mod reseal;

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use vqlc_format::{
    CheckOptions, Digest, Digests, Error, Grid, Picture, Spec, Summary, TokenFile, Writer,
};

/// splitmix64, the project's generator.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`, which must not be 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A picture with its own data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owned {
    pub name: Vec<u8>,
    pub label: Option<u32>,
    pub width: u32,
    pub height: u32,
    pub rows: u32,
    pub cols: u32,
    pub ids: Vec<u32>,
}

impl Owned {
    pub fn as_picture(&self) -> Picture<'_> {
        Picture {
            name: &self.name,
            label: self.label,
            width: self.width,
            height: self.height,
            rows: self.rows,
            cols: self.cols,
            ids: &self.ids,
        }
    }
}

/// A file to be: its specification and pictures.
#[derive(Clone, Debug)]
pub struct Made {
    pub spec: Spec,
    pub pictures: Vec<Owned>,
}

pub const JOB: Digest = Digest([7; 32]);

impl Made {
    /// Random pictures for a specification; varying grids get 1 to 5 rows and columns.
    pub fn random(spec: Spec, pictures: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut picture = |number| {
            let (rows, cols) = match spec.grid {
                Grid::Fixed { rows, cols } => (rows, cols),
                Grid::Varying => (1 + random.below(5) as u32, 1 + random.below(5) as u32),
            };
            let classes = spec.classes.as_ref().map_or(0, Vec::len) as u64;
            let ids = spec.views.len() * rows as usize * cols as usize;
            let codebook_size = u64::from(spec.codebook_size);
            Owned {
                name: format!("class {}/picture {number:04}.jpg", number % 3).into_bytes(),
                // One in five without a label.
                label: (classes > 0 && number % 5 != 4).then(|| random.below(classes) as u32),
                width: 1 + random.below(5000) as u32,
                height: 1 + random.below(5000) as u32,
                rows,
                cols,
                ids: (0..ids)
                    .map(|_| random.below(codebook_size) as u32)
                    .collect(),
            }
        };
        let pictures = (0..pictures).map(&mut picture).collect();
        Self { spec, pictures }
    }

    pub fn push_all(&self, writer: &mut Writer) {
        for position in writer.next_position()..self.pictures.len() as u64 {
            let picture = &self.pictures[position as usize];
            writer.push(position, &picture.as_picture()).unwrap();
        }
    }

    pub fn write(&self, path: &Path) -> Summary {
        let mut writer = Writer::create(path, &self.spec, JOB, false).unwrap();
        self.push_all(&mut writer);
        writer.finish(self.pictures.len() as u64).unwrap()
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("made.vqt");
        self.write(&path);
        fs::read(path).unwrap()
    }

    pub fn views(&self) -> usize {
        self.spec.views.len()
    }

    /// The ids of a record.
    pub fn record(&self, record: u64) -> (u32, u32, &[u32]) {
        let picture = &self.pictures[record as usize / self.views()];
        let length = picture.ids.len() / self.views();
        let start = record as usize % self.views() * length;
        (
            picture.rows,
            picture.cols,
            &picture.ids[start..start + length],
        )
    }
}

/// Digests that differ from each other.
pub fn digests() -> Digests {
    Digests {
        codebook: Digest([0x11; 32]),
        encoder: Digest([0x22; 32]),
        decoder: Digest([0x33; 32]),
        source: Digest([0x44; 32]),
    }
}

/// The plainest specification: 17-bit ids in a fixed grid, nothing beside them.
pub fn plain(rows: u32, cols: u32) -> Spec {
    Spec {
        codebook_size: 100_000,
        grid: Grid::Fixed { rows, cols },
        views: vec!["center".into()],
        records_per_block: None,
        digests: digests(),
        preprocessing: Vec::new(),
        classes: None,
        names: false,
        sizes: false,
    }
}

pub fn class_names() -> Option<Vec<Vec<u8>>> {
    // The second is not UTF-8.
    Some(vec![b"cat".to_vec(), b"\xff\xfedog".to_vec(), b"".to_vec()])
}

/// A small file of each kind.
pub fn kinds() -> Vec<(&'static str, Made)> {
    let everything = Spec {
        views: vec!["center".into(), "flip".into()],
        records_per_block: Some(4),
        preprocessing: b"any bytes \x00\xff".to_vec(),
        classes: class_names(),
        names: true,
        sizes: true,
        ..plain(2, 3)
    };
    let varying = Spec {
        grid: Grid::Varying,
        ..plain(1, 1)
    };
    vec![
        ("empty", Made::random(plain(2, 2), 0, 1)),
        ("empty-everything", Made::random(everything.clone(), 0, 2)),
        ("fixed", Made::random(plain(2, 2), 3, 3)),
        ("varying", Made::random(varying.clone(), 4, 4)),
        (
            "labels",
            Made::random(
                Spec {
                    classes: class_names(),
                    ..plain(1, 3)
                },
                6,
                5,
            ),
        ),
        (
            "names",
            Made::random(
                Spec {
                    names: true,
                    ..plain(1, 1)
                },
                5,
                6,
            ),
        ),
        (
            "sizes",
            Made::random(
                Spec {
                    sizes: true,
                    ..plain(1, 5)
                },
                3,
                7,
            ),
        ),
        ("blocks", Made::random(everything.clone(), 7, 8)),
        (
            "varying-blocks",
            Made::random(
                Spec {
                    grid: Grid::Varying,
                    ..everything
                },
                7,
                9,
            ),
        ),
        // Every bit pattern below 2^bits is an id here, so nothing but checksums protects them.
        (
            "full-range",
            Made::random(
                Spec {
                    codebook_size: 1 << 16,
                    ..plain(2, 2)
                },
                3,
                10,
            ),
        ),
    ]
}

pub const ALL: CheckOptions = CheckOptions {
    sample: None,
    seed: 0,
    threads: 1,
};

/// Asks a reader everything and holds each answer against the truth. `allow` says whether an error may come instead.
/// Returns how many answers were errors.
pub fn compare<D: AsRef<[u8]> + Sync>(
    file: &TokenFile<D>,
    made: &Made,
    allow: impl Fn(&Error) -> bool,
) -> usize {
    let (spec, pictures) = (&made.spec, made.pictures.len() as u64);
    let records = pictures * made.views() as u64;
    assert_eq!((file.len(), file.pictures()), (records, pictures));
    assert_eq!(file.is_empty(), records == 0);
    assert_eq!(file.codebook_size(), spec.codebook_size);
    assert_eq!(file.grid(), spec.grid);
    assert_eq!(*file.digests(), spec.digests);
    assert_eq!(file.views(), spec.views);
    assert_eq!(file.preprocessing(), spec.preprocessing);
    assert_eq!(file.classes(), spec.classes.as_deref());

    let mut errors = 0;
    let mut judge = |what: &str, error: Option<Error>| {
        if let Some(error) = error {
            assert!(allow(&error), "{what}: {error}");
            errors += 1;
        }
    };
    let mut ids = Vec::new();
    for record in 0..records {
        let (rows, cols, expected) = made.record(record);
        match file.get(record, &mut ids) {
            Ok(shape) => assert_eq!(
                (shape, &ids[..]),
                ((rows, cols), expected),
                "record {record}"
            ),
            Err(error) => judge("get", Some(error)),
        }
        match file.shape(record) {
            Ok(shape) => assert_eq!(shape, (rows, cols)),
            Err(error) => judge("shape", Some(error)),
        }
    }
    if let Grid::Fixed { rows, cols } = spec.grid {
        let each = rows as usize * cols as usize;
        let all: Vec<u32> = (0..records)
            .flat_map(|r| made.record(r).2.to_vec())
            .collect();
        let mut out = vec![0; all.len()];
        match file.get_range(0..records, &mut out) {
            Ok(()) => assert_eq!(out, all),
            Err(error) => judge("get_range", Some(error)),
        }
        let backwards: Vec<u64> = (0..records).rev().collect();
        match file.gather(&backwards, &mut out) {
            Ok(()) => assert!(out.chunks(each).eq(all.chunks(each).rev())),
            Err(error) => judge("gather", Some(error)),
        }
    }
    for (number, picture) in made.pictures.iter().enumerate() {
        match file.label(number as u64) {
            Ok(label) => assert_eq!(label, picture.label),
            Err(error) => judge("label", Some(error)),
        }
        match file.name(number as u64) {
            Ok(name) => assert_eq!(name, spec.names.then(|| picture.name.clone())),
            Err(error) => judge("name", Some(error)),
        }
        match file.size(number as u64) {
            Ok(size) => assert_eq!(size, spec.sizes.then_some((picture.width, picture.height))),
            Err(error) => judge("size", Some(error)),
        }
    }
    // Bounded, as an iterator over damaged names must end too.
    let mut names = Vec::new();
    for name in file.names().take(made.pictures.len() + 1) {
        match name {
            Ok(name) => names.push(name),
            Err(error) => judge("names", Some(error)),
        }
    }
    let expected = made.pictures.iter().filter(|_| spec.names).map(|p| &p.name);
    if errors == 0 {
        assert!(expected.eq(&names));
    }
    errors
}

/// A reader that answers everything, and rightly, on a file that passes its check.
pub fn expect_whole<D: AsRef<[u8]> + Sync>(file: &TokenFile<D>, made: &Made) {
    compare(file, made, |_| false);
    let report = file.check(&ALL);
    assert!(report.is_ok(), "{:?}", report.problems);
    let ids: usize = made.pictures.iter().map(|p| p.ids.len()).sum();
    assert_eq!(report.ids_checked, ids as u64);
    assert_eq!(report.blocks_checked, report.blocks);
    assert_eq!(report.bytes_checked, file.header().file_length);
}

/// Bytes of another file: either they are refused as damaged, or every answer is an error that says damaged or is right,
/// and the check finds something in any case. Never a panic, never a wrong id.
pub fn expect_damage(damaged: Vec<u8>, made: &Made, what: &dyn Fn() -> String) {
    match TokenFile::new(damaged) {
        Err(error) => assert!(error.is_damage(), "{}: {error}", what()),
        Ok(file) => {
            compare(&file, made, Error::is_damage);
            let report = file.check(&ALL);
            assert!(!report.is_ok(), "{}: the check found nothing", what());
            for problem in &report.problems {
                assert!(problem.error.is_damage(), "{}: {}", what(), problem.error);
            }
        }
    }
}
