//! What convolutions do to a picture on the way in and out gives the bits of the same things done one after the other; attention against
//! its definition.

mod support;

use support::uniform as random;
use vqlc_ops::{
    Conv2d, ConvShape, Error, GroupNorm, Input, Kernel, Store, Winograd, attention,
    attention_with_kernel, plain,
};

const GROUPS: usize = 2;

/// A picture as it is read.
struct Picture {
    channels: usize,
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Picture {
    fn doubled(&self) -> Self {
        let (height, width) = (2 * self.height, 2 * self.width);
        let values = (0..self.channels * height * width).map(|i| {
            let (channel, y, x) = (i / (height * width), i / width % height, i % width);
            self.values[(channel * self.height + y / 2) * self.width + x / 2]
        });
        Self {
            values: values.collect(),
            height,
            width,
            ..*self
        }
    }

    fn normalised(&self, norm: &GroupNorm) -> Self {
        let mut values = vec![f32::NAN; self.values.len()];
        norm.run(&self.values, &mut values).unwrap();
        Self { values, ..*self }
    }
}

type Convolution = Box<dyn Fn(Input<'_>, &mut [f32], Store) -> Result<(), Error>>;

/// Both ways to convolve, with one kernel.
fn convolutions(shape: ConvShape, kernel: Kernel) -> Vec<Convolution> {
    let weights = shape.outputs * shape.inputs * shape.side * shape.side;
    let (weight, bias) = (random(1, weights), random(2, shape.outputs));
    let direct = Conv2d::new(shape, &weight, &bias).unwrap();
    let direct = direct.with_kernel(kernel).unwrap();
    let mut all: Vec<Convolution> = vec![Box::new(move |input, output, store| {
        direct.run(input, output, store)
    })];
    if Winograd::suits(&shape) {
        let fast = Winograd::new(shape, &weight, &bias).unwrap();
        let fast = fast.with_kernel(kernel).unwrap();
        all.push(Box::new(move |input, output, store| {
            fast.run(input, output, store)
        }));
    }
    all
}

#[test]
fn pictures_are_normalised_and_doubled_as_they_are_read() {
    let channels = 8;
    let mut cases = 0;
    for (side, stride, padding) in [
        (3, 1, (1, 1)),
        (3, 2, (0, 1)),
        (1, 1, (0, 0)),
        (5, 3, (2, 1)),
    ] {
        let shape = ConvShape {
            inputs: channels,
            outputs: 9,
            side,
            stride,
            padding,
        };
        for (height, width) in [(3, 5), (7, 16), (16, 32), (10, 67)] {
            let picture = Picture {
                channels,
                height,
                width,
                values: random(3, channels * height * width),
            };
            for swish in [false, true] {
                let (weight, bias) = (random(4, channels), random(5, channels));
                let norm = GroupNorm::new(GROUPS, 1e-6, &weight, &bias, swish).unwrap();
                let scales = norm.scales(&picture.values).unwrap();
                let plain = Input::new(&picture.values, height, width);
                let normalised = picture.normalised(&norm);
                let ways = [
                    (plain, &picture),
                    (plain.doubled(), &picture.doubled()),
                    (plain.normalised(&scales), &normalised),
                    (plain.normalised(&scales).doubled(), &normalised.doubled()),
                ];
                for (way, (read, made)) in ways.into_iter().enumerate() {
                    assert_eq!((read.height(), read.width()), (made.height, made.width));
                    for kernel in Kernel::available() {
                        for conv in convolutions(shape, kernel) {
                            let rows = shape.output(made.height).unwrap();
                            let columns = shape.output(made.width).unwrap();
                            let before = random(6, 9 * rows * columns);
                            let mut expected = vec![f32::NAN; before.len()];
                            let input = Input::new(&made.values, made.height, made.width);
                            conv(input, &mut expected, Store::Over).unwrap();
                            let mut output = vec![f32::NAN; before.len()];
                            conv(read, &mut output, Store::Over).unwrap();
                            let name = format!("way {way}, {kernel:?} {shape:?} {height}x{width}");
                            assert!(output == expected, "{name}");
                            let mut output = before.clone();
                            conv(read, &mut output, Store::Added).unwrap();
                            for ((got, before), expected) in
                                output.iter().zip(&before).zip(&expected)
                            {
                                assert_eq!(*got, before + expected, "{name}, added");
                            }
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(cases >= 128, "{cases}");
}

/// A 3x3 convolution of as many channels.
fn eight_to_eight(padding: (usize, usize)) -> ConvShape {
    ConvShape {
        inputs: 8,
        outputs: 8,
        side: 3,
        stride: 1,
        padding,
    }
}

#[test]
fn a_picture_without_columns_is_all_zeros_around() {
    let shape = eight_to_eight((2, 2));
    for kernel in Kernel::available() {
        for conv in convolutions(shape, kernel) {
            let mut outputs = [vec![f32::NAN; 8 * 8 * 2], vec![f32::NAN; 8 * 8 * 2]];
            conv(
                Input::new(&[], 3, 0).doubled(),
                &mut outputs[0],
                Store::Over,
            )
            .unwrap();
            conv(Input::new(&[], 6, 0), &mut outputs[1], Store::Over).unwrap();
            assert_eq!(outputs[0], outputs[1]);
            assert!(outputs[0].iter().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn scales_of_another_picture_are_refused() {
    let norm = GroupNorm::new(1, 1e-6, &[1.0; 4], &[0.0; 4], true).unwrap();
    let scales = norm.scales(&random(1, 4 * 6)).unwrap();
    let shape = eight_to_eight((1, 1));
    let values = random(2, 8 * 6);
    for kernel in Kernel::available() {
        for conv in convolutions(shape, kernel) {
            let input = Input::new(&values, 2, 3).normalised(&scales);
            let refused = conv(input, &mut [0.0; 48], Store::Over);
            assert!(matches!(refused, Err(Error::Length { what: "scales", .. })));
        }
    }
}

#[test]
fn attention_is_its_definition_and_the_same_on_every_kernel() {
    // The last have more positions than are looked at together.
    for (channels, positions) in [(1, 1), (4, 9), (24, 256), (5, 37), (4, 1100), (32, 2080)] {
        let of = |seed| -> Vec<f32> {
            let values = random(seed, channels * positions);
            values.iter().map(|x| 2.0 * x).collect()
        };
        let (q, k, v) = (of(1), of(2), of(3));
        let expected = plain::attention(channels, &q, &k, &v);
        let mut best = vec![f32::NAN; q.len()];
        attention(channels, &q, &k, &v, &mut best).unwrap();
        for (got, expected) in best.iter().zip(&expected) {
            assert!(
                (f64::from(*got) - expected).abs() < 3e-6,
                "{got} {expected}"
            );
        }
        for kernel in Kernel::available() {
            let mut output = vec![f32::NAN; q.len()];
            attention_with_kernel(kernel, channels, [&q, &k, &v], &mut output).unwrap();
            assert!(output == best, "{kernel:?} {channels} x {positions}");
        }
    }
    // Weights that are nothing beside the greatest, which comes last.
    let count = 2 * 1100;
    let (q, k) = (
        vec![30.0; count],
        (0..count).map(|i| i as f32).collect::<Vec<_>>(),
    );
    let v = random(4, count);
    let mut output = vec![f32::NAN; count];
    attention(2, &q, &k, &v, &mut output).unwrap();
    for (got, expected) in output.iter().zip(plain::attention(2, &q, &k, &v)) {
        assert!(
            (f64::from(*got) - expected).abs() < 3e-6,
            "{got} {expected}"
        );
    }
    // Of a first thousand keys nothing is left; the last is all that counts.
    let count = 1025;
    let mut k = vec![-1e20; count];
    k[count - 1] = 0.0;
    let v = random(5, count);
    let mut output = vec![f32::NAN; count];
    attention(1, &vec![1e20; count], &k, &v, &mut output).unwrap();
    assert!(output.iter().all(|&got| got == v[count - 1]));
    let empty = attention(0, &[], &[], &[], &mut []);
    assert!(matches!(empty, Err(Error::Empty { .. })));
    let short = attention(2, &[0.0; 4], &[0.0; 4], &[0.0; 2], &mut [0.0; 4]);
    assert!(matches!(short, Err(Error::Length { what: "v", .. })));
}
