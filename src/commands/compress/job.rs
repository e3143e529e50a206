//! What a run is to do, and the digest by which `--resume` knows the same job again.

use std::ops::Range;

use sha2::{Digest as _, Sha256};
use vqlc_format::{Digest, Grid, Spec};
use vqlc_model::image::{Fit, Preprocessing, ReadOptions};
use vqlc_model::{DeviceSpec, Tokenizer};
use vqlc_ops::tensor::Order;

use super::args::CompressArgs;
use crate::same_model;
use crate::walk::Pictures;

/// One run of compress: its part of the pictures and how they become records.
pub(super) struct Job {
    /// This run's pictures, as numbers into the whole list.
    pub(super) range: Range<u64>,
    pub(super) preprocessing: Preprocessing,
    pub(super) reading: ReadOptions,
    pub(super) spec: Spec,
    pub(super) digest: Digest,
    /// Whether labels are recorded.
    pub(super) labels: bool,
}

impl Job {
    pub(super) fn new(
        args: &CompressArgs,
        pictures: &Pictures,
        tokenizer: &Tokenizer,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let factor = u32::try_from(tokenizer.factor())?;
        let preprocessing = Preprocessing::new(args.fit()?, args.views, factor, args.background.0)?
            .with_precision(args.network.precision);
        let grid = match preprocessing.fit() {
            Fit::Crop { size } => Grid::Fixed {
                rows: size / factor,
                cols: size / factor,
            },
            Fit::Whole { .. } => Grid::Varying,
        };
        let labels = !args.no_labels && !pictures.classes.is_empty();
        let spec = Spec {
            codebook_size: tokenizer.codebook_size(),
            grid,
            views: args.views.names(),
            records_per_block: None,
            digests: same_model::recorded(tokenizer.digests()),
            preprocessing: preprocessing.to_bytes(),
            classes: labels.then(|| pictures.classes.clone()),
            names: true,
            sizes: true,
        };
        let digest = digest(args, pictures, &spec, threads)?;
        let reading = ReadOptions {
            max_pixels: args.max_pixels,
            background: args.background.0,
        };
        Ok(Self {
            range: args.range(pictures.len()),
            preprocessing,
            reading,
            spec,
            digest,
            labels,
        })
    }

    /// Pictures of this run.
    pub(super) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Records of each picture.
    pub(super) fn views(&self) -> u64 {
        self.spec.views.len() as u64
    }
}

/// Covers all that the file's bytes depend on and the specification does not hold (the writer compares that by itself):
/// the whole sorted list with sizes and times, the shard, which pictures are refused, the program and the kind of device.
fn digest(
    args: &CompressArgs,
    pictures: &Pictures,
    spec: &Spec,
    threads: usize,
) -> anyhow::Result<Digest> {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    field(b"vqlc compress job");
    field(env!("CARGO_PKG_VERSION").as_bytes());
    field(
        args.shard
            .map_or(String::new(), |shard| shard.to_string())
            .as_bytes(),
    );
    field(&args.max_pixels.to_le_bytes());
    field(&[u8::from(spec.classes.is_some())]);
    field(
        args.memory
            .max_memory
            .map_or(String::new(), |limit| limit.to_string())
            .as_bytes(),
    );
    match args.network.device() {
        DeviceSpec::Cpu => field(b"cpu"),
        DeviceSpec::Cuda(_) => {
            field(b"cuda");
            // Which kernels run depends on these there.
            field(&(args.batch(threads) as u64).to_le_bytes());
            let order = Order::fastest(args.network.precision.dtype(), true)?;
            field(&[u8::try_from(order.channels())?]);
        }
    }
    field(&spec.preprocessing);
    for digest in [spec.digests.codebook, spec.digests.encoder] {
        field(&digest.0);
    }
    pictures.digest(&mut hash);
    Ok(Digest(hash.finalize().into()))
}
