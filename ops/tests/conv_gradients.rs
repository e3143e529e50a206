//! Convolution with its gradients, beside plain loops in f64: candle's own gradients are wrong for odd sizes with a stride.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use vqlc_ops::tensor::{self, Maps, Window, bf16_on_cpu};

#[derive(Debug)]
struct Case {
    pictures: usize,
    inputs: usize,
    outputs: usize,
    side: usize,
    window: Window,
    size: (usize, usize),
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (side, stride, padding) in [
        (1, 1, (0, 0)),
        (3, 1, (1, 1)),
        (3, 2, (0, 1)),
        (4, 2, (1, 1)),
        (4, 1, (1, 1)),
        (3, 1, (0, 0)),
        (1, 2, (0, 0)),
        (5, 3, (2, 1)),
        (1, 1, (1, 2)),
        (2, 2, (0, 3)),
        (2, 3, (4, 0)),
    ] {
        let window = Window { stride, padding };
        for (pictures, inputs, outputs, size) in [
            (1, 3, 5, (16, 16)),
            (2, 9, 8, (7, 33)),
            (3, 5, 18, (6, 5)),
            (2, 16, 3, (5, 64)),
            (2, 24, 17, (21, 38)),
        ] {
            cases.push(Case {
                pictures,
                inputs,
                outputs,
                side,
                window,
                size,
            });
        }
    }
    // More than one group of pictures, long rows, many kernel places.
    cases.push(Case {
        pictures: 2,
        inputs: 1,
        outputs: 1,
        side: 1,
        window: Window::same(0),
        size: (1201, 1777),
    });
    cases.push(Case {
        pictures: 1,
        inputs: 70,
        outputs: 9,
        side: 3,
        window: Window::same(1),
        size: (3, 520),
    });
    cases
}

fn var(random: &mut support::Random, shape: &[usize]) -> Var {
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| random.normal())
        .collect();
    Var::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn doubles(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    tensor.to_vec1().unwrap()
}

/// The greatest difference, of the root of the mean square.
fn error(ours: &Tensor, expected: &[f64]) -> f64 {
    let ours = doubles(ours);
    assert_eq!(ours.len(), expected.len());
    let square = expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64;
    let errors = ours.iter().zip(expected).map(|(a, b)| (a - b).abs());
    errors.fold(0.0, f64::max) / square.sqrt().max(1e-30)
}

/// The result, and the gradients of x, weight and bias where the result's is `grad`.
fn plain(case: &Case, x: &[f64], weight: &[f64], bias: &[f64], grad: &[f64]) -> [Vec<f64>; 4] {
    let (height, width) = case.size;
    let (before, after) = case.window.padding;
    let stride = case.window.stride;
    let places = |n: usize| (n + before + after - case.side) / stride + 1;
    let (rows, columns) = (places(height), places(width));
    let mut result = Vec::new();
    let (mut to_x, mut to_weight) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
    let mut to_bias = vec![0.0; bias.len()];
    for picture in 0..case.pictures {
        for output in 0..case.outputs {
            for (row, column) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                let grad = grad[result.len()];
                let mut sum = bias[output];
                to_bias[output] += grad;
                for input in 0..case.inputs {
                    for (ky, kx) in (0..case.side).flat_map(|y| (0..case.side).map(move |x| (y, x)))
                    {
                        let (y, x_) = (row * stride + ky, column * stride + kx);
                        if y < before || x_ < before || y >= before + height || x_ >= before + width
                        {
                            continue;
                        }
                        let at = (picture * case.inputs + input) * height + y - before;
                        let at = at * width + x_ - before;
                        let w = (output * case.inputs + input) * case.side + ky;
                        let w = w * case.side + kx;
                        sum += x[at] * weight[w];
                        to_x[at] += grad * weight[w];
                        to_weight[w] += grad * x[at];
                    }
                }
                result.push(sum);
            }
        }
    }
    [result, to_x, to_weight, to_bias]
}

fn rounded(tensor: &Tensor) -> Tensor {
    let rounded = tensor.to_dtype(DType::BF16).unwrap();
    rounded.to_dtype(DType::F32).unwrap()
}

fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
    compute: DType,
) -> Result<Tensor> {
    tensor::conv2d(x, weight, bias, window, Maps::channels_first(compute))
}

/// All cases, computed in `compute`; operands are numbers of bf16 where that rounds to them.
fn compare(compute: DType, tolerance: f64) {
    let mut random = support::Random(3);
    let mut numbers = |shape: &[usize]| {
        let numbers = var(&mut random, shape);
        match compute {
            DType::BF16 => Var::from_tensor(&rounded(&numbers)).unwrap(),
            _ => numbers,
        }
    };
    for case in cases() {
        let x = numbers(&[case.pictures, case.inputs, case.size.0, case.size.1]);
        let weight = numbers(&[case.outputs, case.inputs, case.side, case.side]);
        let bias = numbers(&[case.outputs]);
        let y = conv2d(&x, &weight, Some(&bias), case.window, compute).unwrap();
        // A gradient of the output that differs at every place.
        let factor = numbers(y.dims());
        let grads = (&y * factor.as_tensor()).unwrap().sum_all().unwrap();
        let grads = grads.backward().unwrap();
        let values = [&x, &weight, &bias, &factor].map(|v| doubles(v));
        let expected = plain(&case, &values[0], &values[1], &values[2], &values[3]);
        for (what, ours, expected) in [
            ("result", &y, &expected[0]),
            ("x", grads.get(&x).unwrap(), &expected[1]),
            ("weight", grads.get(&weight).unwrap(), &expected[2]),
            ("bias", grads.get(&bias).unwrap(), &expected[3]),
        ] {
            let error = error(ours, expected);
            assert!(error < tolerance, "{what} of {case:?}: {error}");
        }
    }
}

#[test]
fn result_and_gradients_are_those_of_plain_loops() {
    compare(DType::F32, 5e-6);
}

#[test]
fn in_bf16_products_of_bf16_numbers_are_exact_or_it_is_refused() {
    if bf16_on_cpu() {
        return compare(DType::BF16, 3e-5);
    }
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let (x, weight) = (ones(&[1, 2, 4, 4]), ones(&[2, 2, 3, 3]));
    let refused = conv2d(&x, &weight, None, Window::same(1), DType::BF16).unwrap_err();
    assert!(refused.to_string().contains("AMX"), "{refused}");
}

#[test]
fn bf16_rounds_operands_to_nearest_even() {
    let mut random = support::Random(8);
    let (x, weight) = (
        var(&mut random, &[1, 3, 9, 20]),
        var(&mut random, &[4, 3, 3, 3]),
    );
    if !bf16_on_cpu() {
        assert!(conv2d(&x, &weight, None, Window::same(1), DType::BF16).is_err());
        return;
    }
    let run = |x: &Tensor, weight: &Tensor| {
        doubles(&conv2d(x, weight, None, Window::same(1), DType::BF16).unwrap())
    };
    assert_eq!(run(&x, &weight), run(&rounded(&x), &rounded(&weight)));
    // Halfway between two numbers of bf16; infinity and NaN stay what they are.
    let numbers = [257.0 / 256.0, 259.0 / 256.0, f32::INFINITY, -f32::NAN];
    let x = Tensor::new(&numbers, &Device::Cpu).unwrap();
    let one = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu).unwrap();
    let found = run(&x.reshape((4, 1, 1, 1)).unwrap(), &one);
    // The padding makes each a picture of 3 x 3; it lies in the middle.
    let found: Vec<f64> = found.chunks(9).map(|picture| picture[4]).collect();
    assert_eq!(found[..3], [1.0, 1.015_625, f64::INFINITY]);
    assert!(found[3].is_nan());
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let mut random = support::Random(4);
    let x = var(&mut random, &[3, 19, 20, 21]);
    let weight = var(&mut random, &[17, 19, 3, 3]);
    let bias = var(&mut random, &[17]);
    let results: Vec<_> = [1, 2, 5]
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let y = conv2d(&x, &weight, Some(&bias), Window::same(1), DType::F32).unwrap();
                let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                [&x, &weight, &bias].map(|v| doubles(grads.get(v).unwrap()))
            })
        })
        .into();
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn what_is_not_trained_gets_no_gradient_and_strides_do_not_matter() {
    let mut random = support::Random(5);
    let x = var(&mut random, &[1, 4, 6, 5]);
    let weight = var(&mut random, &[4, 3, 3, 3]);
    let turned = |t: &Tensor| t.transpose(1, 2).unwrap();
    let window = Window::same(1);
    // x transposed is [1, 6, 4, 5]; the weight's two channels are exchanged.
    let (a, b) = (
        turned(&x).narrow(1, 1, 4).unwrap(),
        weight.transpose(0, 1).unwrap(),
    );
    let y = conv2d(&a, &b, None, window, DType::F32).unwrap();
    let plain = conv2d(
        &Tensor::from_vec(
            a.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            a.dims(),
            a.device(),
        )
        .unwrap(),
        &b.detach(),
        None,
        window,
        DType::F32,
    )
    .unwrap();
    assert_eq!(doubles(&y), doubles(&plain));
    assert!(!plain.track_op());
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(grads.get(&x).unwrap().dims(), x.dims());
    assert_eq!(grads.get(&weight).unwrap().dims(), weight.dims());
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut random = support::Random(6);
    let x = var(&mut random, &[1, 4, 2, 2]);
    let run = |weight: &[usize], bias: usize, window, compute| {
        let mut random = support::Random(7);
        let (weight, bias) = (var(&mut random, weight), var(&mut random, &[bias]));
        conv2d(&x, &weight, Some(&bias), window, compute)
            .map(drop)
            .map_err(|err| err.to_string())
    };
    let window = Window::same(1);
    assert_eq!(run(&[5, 4, 3, 3], 5, window, DType::F32), Ok(()));
    for (weight, bias, window, compute) in [
        ([5, 3, 3, 3], 5, window, DType::F32),
        ([5, 4, 3, 2], 5, window, DType::F32),
        ([5, 4, 3, 3], 4, window, DType::F32),
        ([5, 4, 3, 3], 5, Window::same(0), DType::F32),
        (
            [5, 4, 3, 3],
            5,
            Window {
                stride: 0,
                padding: (1, 1),
            },
            DType::F32,
        ),
        ([5, 4, 3, 3], 5, window, DType::F64),
    ] {
        let refused = run(&weight, bias, window, compute);
        assert!(refused.is_err(), "{weight:?} {bias} {window:?} {compute:?}");
    }
}
