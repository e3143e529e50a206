//! Queries a second on 100,000 entries of 8 numbers, one group a kernel.
//!
//! Data: normal numbers whose scale falls from 1 to 0.3 over the columns, 4,096 queries of the same kind. Another table and its queries (raw little-endian f32, 8 a
//! row) are measured when `VQLC_BENCH_TABLE` and `VQLC_BENCH_QUERIES` name files. `RAYON_NUM_THREADS` sets the number of threads.
#![allow(missing_docs, reason = "criterion's macros")]

#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vqlc_ops::{Kernel, NearestIndex};

const DIM: usize = 8;

fn nearest(c: &mut Criterion) {
    let mut random = support::Random(0);
    let (table, queries) = (random.tapered(100_000, DIM), random.tapered(4096, DIM));
    measure(c, "100000x8", &table, &queries);
    if let (Some(table), Some(queries)) = (read("VQLC_BENCH_TABLE"), read("VQLC_BENCH_QUERIES")) {
        measure(c, "given", &table, &queries);
    }
}

fn measure(c: &mut Criterion, name: &str, table: &[f32], queries: &[f32]) {
    c.bench_function(&format!("build {name}"), |b| {
        b.iter(|| NearestIndex::build(table, DIM).expect("a table"))
    });
    let index = NearestIndex::build(table, DIM).expect("a table");
    let mut ids = vec![0; queries.len() / DIM];
    let mut group = c.benchmark_group(format!("nearest of {name}"));
    group
        .throughput(Throughput::Elements(ids.len() as u64))
        .sample_size(20);
    for kernel in Kernel::available() {
        let index = index
            .clone()
            .with_kernel(kernel)
            .expect("an available kernel");
        group.bench_function(format!("{kernel:?}"), |b| {
            b.iter(|| index.search(queries, &mut ids).expect("queries"))
        });
    }
    group.finish();
}

fn read(variable: &str) -> Option<Vec<f32>> {
    let bytes = std::fs::read(std::env::var_os(variable)?).expect(variable);
    Some(
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|&x| f32::from_le_bytes(x))
            .collect(),
    )
}

criterion_group!(benches, nearest);
criterion_main!(benches);
