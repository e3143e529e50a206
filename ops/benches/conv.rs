//! 3x3 convolutions of one picture, directly and by Winograd's products, at shapes of the network's levels. `RAYON_NUM_THREADS` sets the
//! number of threads. Throughput is in multiplications of the definition.
#![allow(missing_docs, reason = "criterion's macros")]

#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vqlc_ops::{Conv2d, ConvShape, Input, Store, Winograd};

/// Channels in and out, and the side of the picture.
const SHAPES: [(usize, usize); 8] = [
    (16, 256),
    (32, 256),
    (32, 128),
    (64, 64),
    (128, 16),
    (128, 64),
    (128, 256),
    (256, 64),
];

fn convolutions(c: &mut Criterion) {
    let mut random = support::Random(0);
    let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| random.normal()).collect() };
    for (channels, side) in SHAPES {
        let shape = ConvShape {
            inputs: channels,
            outputs: channels,
            side: 3,
            stride: 1,
            padding: (1, 1),
        };
        let (weight, bias) = (draw(9 * channels * channels), draw(channels));
        let input = draw(channels * side * side);
        let read = Input::new(&input, side, side);
        let mut output = vec![0.0; input.len()];
        let direct = Conv2d::new(shape, &weight, &bias).expect("a convolution");
        let winograd = Winograd::new(shape, &weight, &bias).expect("a convolution");
        let mut group = c.benchmark_group(format!("{channels} channels, {side} x {side}"));
        let products = 9 * channels * input.len();
        group
            .throughput(Throughput::Elements(products as u64))
            .sample_size(20);
        group.bench_function("direct", |b| {
            b.iter(|| direct.run(read, &mut output, Store::Over).expect("sizes"))
        });
        group.bench_function("winograd", |b| {
            b.iter(|| winograd.run(read, &mut output, Store::Over).expect("sizes"))
        });
        group.finish();
    }
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
