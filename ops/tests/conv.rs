//! Convolution and group normalisation against their definitions, to the bit where bits are promised.

mod support;

use support::uniform as random;
use vqlc_ops::{Conv2d, ConvShape, Error, GroupNorm, Input, Kernel, Store, plain};

#[test]
fn every_kernel_gives_the_definition_to_the_bit() {
    let mut cases = 0;
    for (inputs, outputs) in [(1, 1), (3, 8), (5, 3), (8, 17)] {
        for (side, stride, padding) in [
            (3, 1, (1, 1)),
            (3, 2, (0, 1)),
            (1, 1, (0, 0)),
            (3, 1, (0, 0)),
            (5, 3, (2, 1)),
            (1, 2, (0, 0)),
        ] {
            for (height, width) in [(4, 4), (7, 16), (6, 33), (5, 65), (8, 32), (2, 64)] {
                let shape = ConvShape {
                    inputs,
                    outputs,
                    side,
                    stride,
                    padding,
                };
                let weight = random(1, outputs * inputs * side * side);
                let (bias, input) = (random(2, outputs), random(3, inputs * height * width));
                let expected = match plain::conv2d(&shape, &weight, &bias, &input, height, width) {
                    Ok(expected) => expected,
                    Err(err) => {
                        assert_eq!(err, Error::Empty { what: "output" });
                        continue;
                    }
                };
                for kernel in Kernel::available() {
                    let conv = Conv2d::new(shape, &weight, &bias)
                        .unwrap()
                        .with_kernel(kernel)
                        .unwrap();
                    let mut output = vec![f32::NAN; expected.len()];
                    conv.run(Input::new(&input, height, width), &mut output, Store::Over)
                        .unwrap();
                    let same = output
                        .iter()
                        .zip(&expected)
                        .all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{kernel:?} {shape:?} {height} x {width}");
                    cases += 1;
                }
            }
        }
    }
    assert!(cases > 100, "{cases}");
}

/// Pictures that are worked on in several bands of rows.
#[test]
fn bands_of_rows_give_the_definition_to_the_bit() {
    for (side, stride, padding, height) in
        [(3, 1, (1, 1), 40), (3, 2, (0, 1), 80), (1, 1, (0, 0), 80)]
    {
        let (inputs, outputs, width) = (64, 9, 64);
        let shape = ConvShape {
            inputs,
            outputs,
            side,
            stride,
            padding,
        };
        let weight = random(1, outputs * inputs * side * side);
        let (bias, input) = (random(2, outputs), random(3, inputs * height * width));
        let expected = plain::conv2d(&shape, &weight, &bias, &input, height, width).unwrap();
        let mut output = vec![f32::NAN; expected.len()];
        let conv = Conv2d::new(shape, &weight, &bias).unwrap();
        conv.run(Input::new(&input, height, width), &mut output, Store::Over)
            .unwrap();
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        assert!(output.iter().zip(&expected).all(same), "{shape:?}");
    }
}

/// In f64 and without any cleverness.
fn group_norm(groups: usize, weight: &[f32], bias: &[f32], input: &[f32], swish: bool) -> Vec<f64> {
    let positions = input.len() / weight.len();
    let size = input.len() / groups;
    let mut output = Vec::new();
    for (g, group) in input.chunks(size).enumerate() {
        let mean = group.iter().map(|&x| f64::from(x)).sum::<f64>() / size as f64;
        let variance = group
            .iter()
            .map(|&x| (f64::from(x) - mean).powi(2))
            .sum::<f64>()
            / size as f64;
        for (i, &x) in group.iter().enumerate() {
            let channel = (g * size + i) / positions;
            let v = (f64::from(x) - mean) / (variance + 1e-6).sqrt() * f64::from(weight[channel])
                + f64::from(bias[channel]);
            output.push(if swish { v / (1.0 + (-v).exp()) } else { v });
        }
    }
    output
}

#[test]
fn group_norm_is_the_definition_and_the_same_on_every_kernel() {
    for (channels, groups, positions) in [(4, 1, 9), (8, 2, 16), (32, 32, 37), (6, 3, 1000)] {
        let input: Vec<f32> = random(4, channels * positions)
            .iter()
            .map(|x| 3.0 * x + 0.5)
            .collect();
        let (weight, bias) = (random(5, channels), random(6, channels));
        for swish in [false, true] {
            let expected = group_norm(groups, &weight, &bias, &input, swish);
            let mut first: Option<Vec<f32>> = None;
            for kernel in Kernel::available() {
                let norm = GroupNorm::new(groups, 1e-6, &weight, &bias, swish)
                    .unwrap()
                    .with_kernel(kernel)
                    .unwrap();
                let mut output = vec![f32::NAN; input.len()];
                norm.run(&input, &mut output).unwrap();
                for (a, b) in output.iter().zip(&expected) {
                    assert!((f64::from(*a) - b).abs() < 2e-6, "{kernel:?}: {a} for {b}");
                }
                assert_eq!(
                    *first.get_or_insert_with(|| output.clone()),
                    output,
                    "{kernel:?}"
                );
            }
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let shape = ConvShape {
        inputs: 2,
        outputs: 3,
        side: 3,
        stride: 1,
        padding: (1, 1),
    };
    assert!(matches!(
        Conv2d::new(shape, &[0.0; 53], &[0.0; 3]),
        Err(Error::Length {
            what: "weight",
            expected: 54,
            got: 53
        })
    ));
    let conv = Conv2d::new(shape, &[0.0; 54], &[0.0; 3]).unwrap();
    assert!(matches!(
        conv.run(Input::new(&[0.0; 7], 2, 2), &mut [0.0; 12], Store::Over),
        Err(Error::Length { what: "input", .. })
    ));
    assert!(matches!(
        conv.run(Input::new(&[0.0; 8], 2, 2), &mut [0.0; 11], Store::Over),
        Err(Error::Length { what: "output", .. })
    ));
    assert!(GroupNorm::new(3, 1e-6, &[1.0; 4], &[0.0; 4], true).is_err());
    assert!(GroupNorm::new(0, 1e-6, &[1.0; 4], &[0.0; 4], true).is_err());
}
