//! A token file: scattered records, as training takes them too, and the full check.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use vqlc_format::{
    CheckOptions, Digest, Digests, Grid, Picture, Spec, TokenFile, Writer,
    order::{Permutation, Shard},
};
use vqlc_train::tokens::{TokenLoader, TokenOptions, TokenSet, ViewChoice};

use super::{CODEBOOK_SIZE, GRID, Measured, RECORD, RECORDS, What, measure, random_ids};
use crate::text;

/// Records taken at a time.
const BATCH: usize = 1024;

/// A token file in a folder that lasts as long as this.
pub(super) struct Written {
    _folder: TempDir,
    path: PathBuf,
}

impl Written {
    /// Writes it as `compress` does.
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder =
            tempfile::tempdir().context("a temporary folder for the token file to measure on")?;
        let path = folder.path().join("bench.vqt");
        write(&path)?;
        Ok(Self {
            _folder: folder,
            path,
        })
    }

    /// The file in memory.
    pub(super) fn read(&self) -> anyhow::Result<TokenFile<Vec<u8>>> {
        Ok(TokenFile::read(&self.path)?)
    }
}

fn write(path: &Path) -> anyhow::Result<()> {
    let spec = Spec {
        codebook_size: CODEBOOK_SIZE,
        grid: Grid::Fixed {
            rows: GRID,
            cols: GRID,
        },
        views: vec!["center".into()],
        records_per_block: None,
        digests: Digests::default(),
        preprocessing: Vec::new(),
        classes: None,
        names: false,
        sizes: false,
    };
    let mut writer = Writer::create(path, &spec, Digest::default(), false)?;
    let ids = random_ids(6, 64 * RECORD, CODEBOOK_SIZE);
    for (position, ids) in (0..RECORDS).zip(ids.chunks_exact(RECORD).cycle()) {
        writer.push(
            position,
            &Picture {
                name: b"",
                label: None,
                width: 0,
                height: 0,
                rows: GRID,
                cols: GRID,
                ids,
            },
        )?;
    }
    writer.finish(RECORDS)?;
    Ok(())
}

/// The file as training reads it.
pub(super) fn loader(
    written: &Written,
    threads: usize,
    budget: Duration,
) -> anyhow::Result<Measured> {
    let set = Arc::new(TokenSet::open(std::slice::from_ref(&written.path))?);
    let options = TokenOptions {
        batch: BATCH,
        seed: 7,
        shard: Shard::whole(),
        views: ViewChoice::Drawn,
        whole_batches: true,
        ahead: 4,
        threads,
    };
    let mut loader = TokenLoader::start(&set, options, None)?;
    let detail = format!(
        "256 ids of 17 bits each, shuffled, batches of 1,024 gathered by {}",
        text::things(threads as u64, "thread")
    );
    measure(
        What::Loader,
        "records",
        detail,
        RECORDS as f64,
        budget,
        || {
            for _ in 0..RECORDS as usize / BATCH {
                black_box(loader.next_batch()?);
            }
            Ok(())
        },
    )
}

pub(super) fn gather(file: &TokenFile<Vec<u8>>, budget: Duration) -> anyhow::Result<Measured> {
    let order = Permutation::new(RECORDS, 7);
    let shuffled: Vec<u64> = (0..RECORDS).map(|position| order.at(position)).collect();
    let mut ids = vec![0; BATCH * RECORD];
    let detail = "256 ids of 17 bits each, random order, batches of 1,024, one thread".into();
    measure(
        What::Gather,
        "records",
        detail,
        RECORDS as f64,
        budget,
        || {
            for records in shuffled.chunks_exact(BATCH) {
                file.gather(records, &mut ids)?;
                black_box(&ids);
            }
            Ok(())
        },
    )
}

pub(super) fn validate(
    file: &TokenFile<Vec<u8>>,
    threads: usize,
    budget: Duration,
) -> anyhow::Result<Measured> {
    let options = CheckOptions {
        sample: None,
        seed: 0,
        threads,
    };
    let bytes = file.check(&options).bytes_checked;
    measure(
        What::Validate,
        "bytes",
        format!("{}, in memory", text::bytes(bytes)),
        bytes as f64,
        budget,
        || {
            ensure!(
                black_box(file.check(&options)).problems.is_empty(),
                "the file just written does not validate"
            );
            Ok(())
        },
    )
}
