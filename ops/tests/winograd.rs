//! Winograd's convolution against the definition: near it, and the same to the bit on every kernel and number of threads.

mod support;

use rayon::ThreadPoolBuilder;
use support::uniform as random;
use vqlc_ops::{ConvShape, Error, Input, Kernel, Store, Winograd, plain};

fn shape(inputs: usize, outputs: usize, padding: (usize, usize)) -> ConvShape {
    ConvShape {
        inputs,
        outputs,
        side: 3,
        stride: 1,
        padding,
    }
}

/// The definition's results, and with absolute values throughout: what rounding errors are a share of.
fn expected(
    shape: &ConvShape,
    weight: &[f32],
    bias: &[f32],
    input: &[f32],
    (height, width): (usize, usize),
) -> (Vec<f32>, Vec<f32>) {
    let absolute = |values: &[f32]| values.iter().map(|v| v.abs()).collect::<Vec<_>>();
    let (weights, biases, inputs) = (absolute(weight), absolute(bias), absolute(input));
    (
        plain::conv2d(shape, weight, bias, input, height, width).unwrap(),
        plain::conv2d(shape, &weights, &biases, &inputs, height, width).unwrap(),
    )
}

#[test]
fn every_kernel_comes_near_the_definition_and_they_agree_to_the_bit() {
    let mut cases = 0;
    for (inputs, outputs) in [(1, 1), (3, 8), (8, 17), (130, 24)] {
        for padding in [(1, 1), (0, 0), (2, 1)] {
            for size in [
                (1, 1),
                (4, 4),
                (5, 7),
                (16, 16),
                (6, 130),
                (33, 65),
                (9, 300),
            ] {
                let shape = shape(inputs, outputs, padding);
                let weight = random(1, outputs * inputs * 9);
                let (bias, input) = (random(2, outputs), random(3, inputs * size.0 * size.1));
                if shape.output(size.0).is_none() {
                    continue;
                }
                let (expected, scale) = expected(&shape, &weight, &bias, &input, size);
                let mut first: Option<Vec<f32>> = None;
                for kernel in Kernel::available() {
                    let conv = Winograd::new(shape, &weight, &bias).unwrap();
                    let conv = conv.with_kernel(kernel).unwrap();
                    let mut output = vec![f32::NAN; expected.len()];
                    let input = Input::new(&input, size.0, size.1);
                    conv.run(input, &mut output, Store::Over).unwrap();
                    for ((got, expected), scale) in output.iter().zip(&expected).zip(&scale) {
                        let error = (got - expected).abs() / scale;
                        assert!(error < 4e-6, "{kernel:?} {shape:?} {size:?}: {error}");
                    }
                    let first = first.get_or_insert_with(|| output.clone());
                    assert!(*first == output, "{kernel:?} {shape:?} {size:?}");
                    cases += 1;
                }
            }
        }
    }
    assert!(cases > 80, "{cases}");
}

#[test]
fn threads_do_not_matter() {
    // Of the second, bands of several parts below each other, each of several parts side by side.
    for (outputs, height, width) in [(40, 37, 70), (8, 130, 270)] {
        let shape = shape(9, outputs, (1, 1));
        let (weight, bias) = (random(1, 9 * outputs * 9), random(2, outputs));
        let conv = Winograd::new(shape, &weight, &bias).unwrap();
        let input = random(3, 9 * height * width);
        let run = |threads: usize| {
            let mut output = vec![f32::NAN; outputs * height * width];
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap()
                .install(|| conv.run(Input::new(&input, height, width), &mut output, Store::Over))
                .unwrap();
            output
        };
        let output = run(1);
        assert!(output == run(3));
        let (expected, scale) = expected(&shape, &weight, &bias, &input, (height, width));
        for ((got, expected), scale) in output.iter().zip(&expected).zip(&scale) {
            assert!((got - expected).abs() < 4e-6 * scale, "{got} {expected}");
        }
    }
}

#[test]
fn it_says_what_it_is_for_and_refuses_the_rest() {
    let good = shape(16, 16, (1, 1));
    assert!(Winograd::suits(&good));
    let wide = ConvShape {
        inputs: 512,
        outputs: 512,
        ..good
    };
    let strided = ConvShape { stride: 2, ..good };
    let pointwise = ConvShape { side: 1, ..good };
    let few = ConvShape { inputs: 3, ..good };
    for other in [wide, strided, pointwise, few] {
        assert!(!Winograd::suits(&other), "{other:?}");
    }
    assert_eq!(
        Winograd::new(strided, &[0.0; 16 * 16 * 9], &[0.0; 16]).err(),
        Some(Error::Window { side: 3, stride: 2 })
    );
    let length = Winograd::new(good, &[0.0; 7], &[0.0; 16]).err();
    assert!(matches!(length, Some(Error::Length { what: "weight", .. })));
    let conv = Winograd::new(good, &[0.0; 16 * 16 * 9], &[0.0; 16]).unwrap();
    let short = conv.run(Input::new(&[0.0; 15], 1, 1), &mut [0.0; 16], Store::Over);
    let short = short.err();
    assert!(matches!(short, Some(Error::Length { what: "input", .. })));
    let short = conv.run(Input::new(&[0.0; 16], 1, 1), &mut [0.0; 15], Store::Over);
    let short = short.err();
    assert!(matches!(short, Some(Error::Length { what: "output", .. })));
}
