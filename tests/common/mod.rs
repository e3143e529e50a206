//! What the tests of the command line share: running the program, and token files and models made on the spot.
// Each test file is a program of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use vqlc_format::{Digest, Digests, Grid, Picture, Spec, Writer};
use vqlc_model::{
    VqganConfig,
    file::ModelFile,
    image::{Fit, Preprocessing, Views},
    rng::Rng,
    tokenizer::random_model,
};

/// How a run of `vqlc` ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    /// The result as JSON; the run must have printed one object and nothing else.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }

    /// Panics unless the code is this one.
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "{self:?}");
        self
    }
}

/// Runs `vqlc`.
pub fn vqlc<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_vqlc"))
        .args(args)
        .output()
        .unwrap();
    Run {
        code: output.status.code().expect("it was not killed"),
        out: String::from_utf8(output.stdout).expect("stdout is text"),
        err: String::from_utf8(output.stderr).expect("stderr is text"),
    }
}

/// Arguments of different kinds in one list.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { [$(std::ffi::OsString::from(&$arg)),*] };
}

pub const CODEBOOK_SIZE: u32 = 1000;
pub const GRID: u32 = 4;

/// A small specification: one view, labels, names and sizes, several blocks.
pub fn spec() -> Spec {
    Spec {
        codebook_size: CODEBOOK_SIZE,
        grid: Grid::Fixed {
            rows: GRID,
            cols: GRID,
        },
        views: vec!["center".into()],
        records_per_block: Some(8),
        digests: Digests::default(),
        preprocessing: Preprocessing::new(Fit::Crop { size: 64 }, Views::Center, 16, [255; 3])
            .unwrap()
            .to_bytes(),
        classes: Some(vec![b"birds".to_vec(), b"fish".to_vec()]),
        names: true,
        sizes: true,
    }
}

/// The label of picture number `picture` in a file with labels: 0, 1, none, 0, 1, none, ...
pub fn label(picture: u64) -> Option<u32> {
    (picture % 3 < 2).then_some((picture % 3) as u32)
}

/// Writes `pictures` pictures of random ids and returns the ids of all records. In a file of varying grids picture `i`
/// has `1 + i % 3` rows and 2 columns.
pub fn token_file(path: &Path, spec: &Spec, pictures: u64) -> Vec<u32> {
    let mut rng = Rng::new(pictures);
    let mut all = Vec::new();
    let mut writer = Writer::create(path, spec, Digest::default(), true).unwrap();
    for position in 0..pictures {
        let (rows, cols) = match spec.grid {
            Grid::Fixed { rows, cols } => (rows, cols),
            Grid::Varying => (1 + (position % 3) as u32, 2),
        };
        let count = spec.views.len() * (rows * cols) as usize;
        let ids: Vec<u32> = (0..count)
            .map(|_| (rng.next_u64() % u64::from(spec.codebook_size)) as u32)
            .collect();
        let name = format!(
            "{}/{position}.jpg",
            if position % 2 == 0 { "birds" } else { "fish" }
        );
        let picture = Picture {
            name: name.as_bytes(),
            label: spec.classes.as_ref().and_then(|_| label(position)),
            width: 100,
            height: 70,
            rows,
            cols,
            ids: &ids,
        };
        writer.push(position, &picture).unwrap();
        all.extend(ids);
    }
    writer.finish(pictures).unwrap();
    all
}

/// Flips the lowest bit of the byte at `offset`.
pub fn flip(path: &Path, offset: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset as usize] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// A tiny model with random weights.
pub fn tiny_model(seed: u64) -> ModelFile {
    random_model(&VqganConfig::preset("tiny-f16").unwrap(), seed).unwrap()
}

/// The digests of a model as token files record them.
pub fn digests(model: &ModelFile) -> Digests {
    let digests = model.digests();
    Digests {
        codebook: Digest(digests.codebook),
        encoder: Digest(digests.encoder),
        decoder: Digest(digests.decoder),
        source: Digest(digests.source),
    }
}

/// A folder that goes away with the test, and paths in it.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Names of everything in it, sorted.
    pub fn listing(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}
