//! A token file of 131,072 records of 256 ids of 17 bits (71 MB): gathering at random, reading in order, and checking.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vqlc_format::order::{Sampler, Shard};
use vqlc_format::{CheckOptions, Digest, Digests, Grid, Picture, Spec, TokenFile, Writer};

const RECORDS: u64 = 1 << 17;
const IDS: usize = 256;
/// Records of a training batch.
const BATCH: usize = 256;

fn write(path: &std::path::Path) -> vqlc_format::Result<()> {
    let spec = Spec {
        codebook_size: 100_000,
        grid: Grid::Fixed { rows: 16, cols: 16 },
        views: vec!["center".into()],
        records_per_block: None,
        digests: Digests::default(),
        preprocessing: Vec::new(),
        classes: None,
        names: false,
        sizes: false,
    };
    let mut writer = Writer::create(path, &spec, Digest::default(), true)?;
    let mut ids = [0u32; IDS];
    let mut state = 1u64;
    for position in 0..RECORDS {
        for id in &mut ids {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *id = ((state >> 40) % 100_000) as u32;
        }
        let picture = Picture {
            name: b"",
            label: None,
            width: 256,
            height: 256,
            rows: 16,
            cols: 16,
            ids: &ids,
        };
        writer.push(position, &picture)?;
    }
    writer.finish(RECORDS)?;
    Ok(())
}

fn benches(c: &mut Criterion) {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let path = folder.path().join("bench.vqt");
    write(&path).expect("a token file");
    let file = TokenFile::open(&path).expect("an open token file");
    let mut out = vec![0; BATCH * IDS];

    let mut group = c.benchmark_group("token file");
    group.sample_size(20);
    group.throughput(Throughput::Elements(BATCH as u64));
    let sampler = Sampler::new(RECORDS, 1, Shard::whole());
    let mut epoch = sampler.epoch(0, 0);
    let mut records = Vec::with_capacity(BATCH);
    group.bench_function("gather 256 records in sampling order", |b| {
        b.iter(|| {
            records.clear();
            records.extend(epoch.by_ref().take(BATCH));
            if records.len() < BATCH {
                epoch = sampler.epoch(0, 0);
                records.extend(epoch.by_ref().take(BATCH - records.len()));
            }
            file.gather(&records, &mut out).expect("records");
            black_box(&mut out);
        });
    });
    let mut start = 0;
    group.bench_function("get_range of 256 records in order", |b| {
        b.iter(|| {
            file.get_range(start..start + BATCH as u64, &mut out)
                .expect("records");
            start = (start + BATCH as u64) % RECORDS;
            black_box(&mut out);
        });
    });
    group.throughput(Throughput::Bytes(file.header().file_length));
    group.sample_size(10);
    for threads in [1, 2] {
        let options = CheckOptions {
            threads,
            ..CheckOptions::default()
        };
        group.bench_function(format!("check all, {threads} threads"), |b| {
            b.iter(|| black_box(file.check(&options)));
        });
    }
    group.bench_function("open", |b| {
        b.iter(|| TokenFile::open(&path).expect("an open token file"));
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
