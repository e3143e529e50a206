//! Fast kernels against their plain versions: bit packing, the nearest-entry search and convolution.

use vqlc_format::pack;
use vqlc_model::rng::Rng;
use vqlc_ops::{Conv2d, ConvShape, Input, NearestIndex, Store, Winograd, plain};

use super::Outcome;

/// Every width, and counts around the places where the fast kernels hand over to the plain one.
pub(super) fn packing() -> Outcome {
    const COUNTS: [usize; 12] = [0, 1, 2, 7, 8, 9, 31, 64, 255, 256, 257, 5000];
    let mut rng = Rng::new(1);
    let mut compared = 0u64;
    for bits in 1..=32u32 {
        for count in COUNTS {
            let ids: Vec<u32> = (0..count)
                .map(|_| (rng.next_u64() >> (64 - bits)) as u32)
                .collect();
            let len = (count * bits as usize).div_ceil(8);
            let (mut fast, mut plain) = (vec![0xaa; len], vec![0x55; len]);
            pack::pack(&ids, bits, &mut fast);
            pack::scalar::pack(&ids, bits, &mut plain);
            if fast != plain {
                return Outcome::failed(format!("packing {count} ids of {bits} bits"));
            }
            let (mut fast, mut slow) = (vec![1; count], vec![2; count]);
            pack::unpack(&plain, bits, &mut fast);
            pack::scalar::unpack(&plain, bits, &mut slow);
            if fast != slow || fast != ids {
                return Outcome::failed(format!("unpacking {count} ids of {bits} bits"));
            }
            compared += count as u64;
        }
    }
    Outcome::ok(format!(
        "{} in 32 widths",
        crate::text::things(compared, "id")
    ))
}

/// Random tables, also with entries that occur twice and queries that lie on entries, where only the lower id is right.
pub(super) fn nearest() -> Outcome {
    let mut rng = Rng::new(2);
    let mut compared = 0u64;
    for (entries, dim, queries) in [
        (1, 1, 50),
        (2, 3, 50),
        (1000, 8, 500),
        (20_000, 8, 200),
        (3000, 4, 200),
        (700, 13, 200),
        (500, 32, 100),
    ] {
        let mut table: Vec<f32> = (0..entries * dim).map(|_| rng.normal() as f32).collect();
        // The last tenth repeats the first: a tie for every query that lands there.
        let repeated = entries / 10 * dim;
        table.copy_within(..repeated, entries * dim - repeated);
        let mut asked: Vec<f32> = (0..queries * dim)
            .map(|_| 1.5 * rng.normal() as f32)
            .collect();
        for (query, entry) in asked
            .chunks_exact_mut(dim)
            .zip(table.chunks_exact(dim))
            .step_by(5)
        {
            query.copy_from_slice(entry);
        }
        let (mut fast, mut slow) = (vec![0; queries], vec![0; queries]);
        let searched = NearestIndex::build(&table, dim)
            .and_then(|index| index.search(&asked, &mut fast))
            .and_then(|()| plain::nearest(&table, dim, &asked, &mut slow));
        if let Err(err) = searched {
            return Outcome::failed(format!("{entries} x {dim}: {err}"));
        }
        let differ = fast
            .iter()
            .zip(&slow)
            .filter(|(fast, slow)| fast != slow)
            .count();
        if differ > 0 {
            return Outcome::failed(format!(
                "{entries} x {dim}: {differ} of {queries} ids differ"
            ));
        }
        compared += queries as u64;
    }
    Outcome::ok(format!(
        "{} in 7 tables",
        crate::text::things(compared, "query").replace("querys", "queries")
    ))
}

/// Winograd's outputs may be off by this share of the sum of absolute products: a few roundings of f32.
const ROUNDING: f32 = 4e-6;

/// The convolutions of the network at sizes that leave tiles half full: equal to the bit, and by Winograd's products equal but for rounding.
pub(super) fn convolution() -> Outcome {
    let mut rng = Rng::new(3);
    let mut compared = 0u64;
    for (inputs, outputs, side, stride, padding) in [
        (3, 32, 3, 1, (1, 1)),
        (32, 3, 3, 1, (1, 1)),
        (16, 16, 3, 2, (0, 1)),
        (24, 8, 1, 1, (0, 0)),
        (24, 40, 3, 1, (1, 1)),
    ] {
        let shape = ConvShape {
            inputs,
            outputs,
            side,
            stride,
            padding,
        };
        let (height, width) = (20, 52);
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() as f32).collect() };
        let weight = draw(outputs * inputs * side * side);
        let (bias, input) = (draw(outputs), draw(inputs * height * width));
        match differing(&shape, &weight, &bias, &input, (height, width)) {
            Err(err) => return Outcome::failed(err.to_string()),
            Ok((differing, of)) => {
                if differing > 0 {
                    return Outcome::failed(format!(
                        "{inputs} to {outputs} channels, {side} x {side}: {differing} of {of} values"
                    ));
                }
                compared += of;
            }
        }
    }
    Outcome::ok(format!(
        "{} in 5 shapes",
        crate::text::things(compared, "value")
    ))
}

/// The network's attention, also over more positions than are looked at together.
pub(super) fn attention() -> Outcome {
    const ROUNDING: f64 = 1e-5;
    let mut rng = Rng::new(4);
    let mut compared = 0;
    for (channels, positions) in [(24, 256), (5, 37), (4, 1100)] {
        let mut draw = || -> Vec<f32> {
            let values = (0..channels * positions).map(|_| rng.normal() as f32);
            values.collect()
        };
        let (q, k, v) = (draw(), draw(), draw());
        let mut fast = vec![0.0; q.len()];
        if let Err(err) = vqlc_ops::attention(channels, &q, &k, &v, &mut fast) {
            return Outcome::failed(format!("{channels} x {positions}: {err}"));
        }
        let slow = plain::attention(channels, &q, &k, &v);
        // A NaN is near nothing.
        let near = |(fast, slow): (&f32, &f64)| (f64::from(*fast) - slow).abs() <= ROUNDING;
        let differ = fast.iter().zip(&slow).filter(|&pair| !near(pair)).count();
        if differ > 0 {
            return Outcome::failed(format!(
                "{channels} x {positions}: {differ} of {} values",
                fast.len()
            ));
        }
        compared += fast.len() as u64;
    }
    Outcome::ok(format!(
        "{} in 3 shapes",
        crate::text::things(compared, "value")
    ))
}

/// How many values a fast convolution computes otherwise than the definition, and of how many.
fn differing(
    shape: &ConvShape,
    weight: &[f32],
    bias: &[f32],
    input: &[f32],
    (height, width): (usize, usize),
) -> Result<(u64, u64), vqlc_ops::Error> {
    let slow = plain::conv2d(shape, weight, bias, input, height, width)?;
    let mut fast = vec![0.0; slow.len()];
    let read = Input::new(input, height, width);
    let differing = if Winograd::suits(shape) {
        Winograd::new(*shape, weight, bias)?.run(read, &mut fast, Store::Over)?;
        let [weight, bias, input] = [weight, bias, input].map(absolute);
        let scale = plain::conv2d(shape, &weight, &bias, &input, height, width)?;
        // A NaN is near nothing.
        let near = |((a, b), scale): ((&f32, &f32), &f32)| (a - b).abs() <= ROUNDING * scale;
        let values = fast.iter().zip(&slow).zip(&scale);
        values.filter(|&values| !near(values)).count()
    } else {
        Conv2d::new(*shape, weight, bias)?.run(read, &mut fast, Store::Over)?;
        let pairs = fast.iter().zip(&slow);
        pairs.filter(|(a, b)| a.to_bits() != b.to_bits()).count()
    };
    Ok((differing as u64, slow.len() as u64))
}

fn absolute(values: &[f32]) -> Vec<f32> {
    values.iter().map(|v| v.abs()).collect()
}
