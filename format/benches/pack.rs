//! Bit unpacking: from memory in order, of records picked at random, and of one record in cache.
//! The limits these are held against (one thread, 17 bits) are in the dated results beside the workspace's benches.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vqlc_format::order::Permutation;
use vqlc_format::pack;

const BITS: u32 = 17;
const IDS: usize = 256;
const RECORD: usize = 544;
/// 278 MB packed, more than any cache holds.
const RECORDS: usize = 512 * 1024;

fn packed() -> Vec<u8> {
    let mut state = 1u64;
    (0..RECORD * RECORDS)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

fn benches(c: &mut Criterion) {
    let bytes = packed();
    let order = Permutation::new(RECORDS as u64, 1);

    let mut group = c.benchmark_group("unpack 17 bits");
    group.sample_size(20);
    group.throughput(Throughput::Elements(1 << 20));
    // A batch-sized destination that stays in cache: what is measured is reading the packed bytes from memory.
    let mut out = vec![0; 1 << 14];
    let chunk = out.len() / 8 * BITS as usize;
    let mut at = 0;
    group.bench_function("in order, from memory", |b| {
        b.iter(|| {
            for _ in 0..64 {
                if at + chunk > bytes.len() {
                    at = 0;
                }
                pack::unpack(&bytes[at..], BITS, &mut out);
                at += chunk;
            }
            black_box(&mut out);
        });
    });
    group.bench_function("in order, from memory, scalar", |b| {
        b.iter(|| {
            for _ in 0..64 {
                if at + chunk > bytes.len() {
                    at = 0;
                }
                pack::scalar::unpack(&bytes[at..], BITS, &mut out);
                at += chunk;
            }
            black_box(&mut out);
        });
    });
    group.finish();

    let mut group = c.benchmark_group("one record of 256 ids");
    group.throughput(Throughput::Elements(1));
    let mut ids = [0; IDS];
    group.bench_function("unpack, in cache", |b| {
        b.iter(|| pack::unpack(black_box(&bytes[..RECORD]), BITS, black_box(&mut ids)));
    });
    group.bench_function("greatest id", |b| {
        b.iter(|| pack::max_id(black_box(&ids)));
    });
    group.bench_function("pack", |b| {
        let mut packed = [0; RECORD];
        b.iter(|| pack::pack(black_box(&ids), BITS, black_box(&mut packed)));
    });
    let mut position = 0;
    group.bench_function("order lookup", |b| {
        b.iter(|| {
            position = (position + 1) % RECORDS as u64;
            order.at(position)
        });
    });
    group.bench_function("unpack at random from memory", |b| {
        b.iter(|| {
            position = (position + 1) % RECORDS as u64;
            let start = order.at(position) as usize * RECORD;
            pack::unpack(&bytes[start..start + RECORD], BITS, black_box(&mut ids));
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
