//! Results and gradients of the operations on tensors against their formulas, written with candle's plainest operations in f64.

mod support;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use support::Random;
use vqlc_ops::tensor::{self, Order, Window};

fn random(seed: u64, shape: &[usize]) -> Var {
    let mut rng = Random(seed);
    let values = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    let tensor = Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu).unwrap();
    Var::from_tensor(&tensor).unwrap()
}

/// The result of `f` and the gradients at its arguments of the sum of the results times fixed numbers, all in f64.
fn run(vars: &[Var], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Vec<f64>> {
    let arguments: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = f(&arguments).unwrap();
    let weights = random(99, y.dims()).to_dtype(y.dtype()).unwrap();
    let grads = (&y * weights)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let mut out = vec![y];
    out.extend(vars.iter().map(|var| grads.get(var).unwrap().clone()));
    let doubles = |t: Tensor| t.flatten_all()?.to_dtype(DType::F64)?.to_vec1();
    out.into_iter().map(|t| doubles(t).unwrap()).collect()
}

/// Compares `fast` with `formula`, and with itself on other numbers of threads, to the bit.
fn check(
    what: &str,
    vars: &[Var],
    fast: impl Fn(&[Tensor]) -> Result<Tensor> + Sync,
    formula: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let found = run(vars, &fast);
    let wide: Vec<_> = vars
        .iter()
        .map(|var| Var::from_tensor(&var.to_dtype(DType::F64).unwrap()).unwrap())
        .collect();
    for (i, (found, expected)) in found.iter().zip(run(&wide, formula)).enumerate() {
        assert_eq!(found.len(), expected.len(), "{what}: length of {i}");
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let size = norm(&mut expected.iter().copied());
        let error = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
        assert!(
            error <= 3e-6 * size + 1e-6,
            "{what}: of result and gradients number {i}: {error} of {size}"
        );
    }
    for threads in [1, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let again = pool.build().unwrap().install(|| run(vars, &fast));
        assert!(again == found, "{what}: {threads} threads");
    }
}

fn group_norm(t: &[Tensor], groups: usize, eps: f64, swish: bool) -> Result<Tensor> {
    let [x, weight, bias] = t else { unreachable!() };
    let flat = x.reshape((x.dim(0)?, groups, ()))?;
    let centred = flat.broadcast_sub(&flat.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let unit = centred
        .broadcast_div(&(variance + eps)?.sqrt()?)?
        .reshape(x.shape())?;
    let column = |t: &Tensor| t.reshape((1, (), 1, 1));
    let v = unit
        .broadcast_mul(&column(weight)?)?
        .broadcast_add(&column(bias)?)?;
    if !swish {
        return Ok(v);
    }
    &v / (v.neg()?.exp()? + 1.0)?
}

#[test]
fn group_norm_and_swish() {
    for (shape, groups) in [
        ([2, 8, 5, 7], 2),
        ([1, 4, 1, 1], 1),
        ([3, 6, 20, 33], 6),
        ([1, 32, 16, 16], 8),
    ] {
        let channels = [shape[1]];
        let vars = [
            random(1, &shape),
            random(2, &channels),
            random(3, &channels),
        ];
        for swish in [false, true] {
            check(
                &format!("group_norm {shape:?}, {groups} groups, swish {swish}"),
                &vars,
                |t| {
                    tensor::group_norm(
                        &t[0],
                        &t[1],
                        &t[2],
                        groups,
                        1e-6,
                        swish,
                        Order::ChannelsFirst,
                    )
                },
                |t| group_norm(t, groups, 1e-6, swish),
            );
        }
    }
}

#[test]
fn group_norm_far_from_zero() {
    let x = random(1, &[2, 4, 9, 9]).affine(0.01, 3.0).unwrap();
    let vars = [
        Var::from_tensor(&x).unwrap(),
        random(2, &[4]),
        random(3, &[4]),
    ];
    let found = run(&vars, |t| {
        tensor::group_norm(&t[0], &t[1], &t[2], 2, 1e-6, true, Order::ChannelsFirst)
    });
    let wide = vars.map(|var| Var::from_tensor(&var.to_dtype(DType::F64).unwrap()).unwrap());
    let expected = run(&wide, |t| group_norm(t, 2, 1e-6, true));
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        // Mean / deviation is 300, and so many roundings of x stand in each normalised number.
        assert!((a - b).abs() < 2e-3 * b.abs().max(1.0), "{a} {b}");
    }
}

#[test]
fn arguments_that_are_not_trained_get_no_gradient() {
    let x = random(1, &[1, 4, 6, 6]);
    let frozen = random(2, &[4]).as_tensor().detach();
    let y = tensor::group_norm(&x, &frozen, &frozen, 2, 1e-6, true, Order::ChannelsFirst).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&frozen).is_none());
    let frozen = random(2, &[4, 1, 3, 3]).as_tensor().detach();
    let y = tensor::depthwise(&x, &frozen, None, Window::same(1)).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&frozen).is_none());
}

#[test]
fn batch_norm_of_the_batch() {
    let vars = [random(1, &[3, 5, 6, 7]), random(2, &[5]), random(3, &[5])];
    let statistics = |x: &Tensor| -> Result<(Tensor, Tensor)> {
        let flat = x.transpose(0, 1)?.reshape((5, ()))?;
        let mean = flat.mean_keepdim(1)?;
        let variance = flat.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
        Ok((mean, variance))
    };
    check(
        "batch_norm_train",
        &vars,
        |t| Ok(tensor::batch_norm_train(&t[0], &t[1], &t[2], 1e-5, Order::ChannelsFirst)?.0),
        |t| {
            let (mean, variance) = statistics(&t[0])?;
            let column = |t: &Tensor| t.reshape((1, 5, 1, 1));
            t[0].broadcast_sub(&column(&mean)?)?
                .broadcast_div(&column(&(variance + 1e-5)?.sqrt()?)?)?
                .broadcast_mul(&column(&t[1])?)?
                .broadcast_add(&column(&t[2])?)
        },
    );
    let (_, mean, variance) =
        tensor::batch_norm_train(&vars[0], &vars[1], &vars[2], 1e-5, Order::ChannelsFirst).unwrap();
    let (expected_mean, expected_variance) = statistics(&vars[0]).unwrap();
    for (found, expected) in [(mean, expected_mean), (variance, expected_variance)] {
        assert_eq!(found.dims(), [5]);
        assert!(!found.track_op());
        let difference = (found - expected.flatten_all().unwrap())
            .unwrap()
            .abs()
            .unwrap();
        assert!(difference.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-6);
    }
}

/// Every kernel place's shifted and thinned input times its weight, summed.
fn depthwise(t: &[Tensor], window: Window) -> Result<Tensor> {
    let (x, weight) = (&t[0], &t[1]);
    let side = weight.dim(3)?;
    let (before, after) = window.padding;
    let x = x
        .pad_with_zeros(2, before, after)?
        .pad_with_zeros(3, before, after)?;
    let places = |n: usize, k: usize| {
        let count = (n - side) / window.stride + 1;
        let places = (0..count).map(|i| (i * window.stride + k) as u32).collect();
        Tensor::from_vec(places, count, &Device::Cpu)
    };
    let mut sum = match t.get(2) {
        Some(bias) => bias.reshape((1, (), 1, 1))?,
        None => Tensor::zeros((1, 1, 1, 1), DType::F64, &Device::Cpu)?,
    };
    for ky in 0..side {
        for kx in 0..side {
            let seen = x
                .index_select(&places(x.dim(2)?, ky)?, 2)?
                .index_select(&places(x.dim(3)?, kx)?, 3)?;
            let w = weight.narrow(2, ky, 1)?.narrow(3, kx, 1)?.transpose(0, 1)?;
            sum = seen.broadcast_mul(&w.contiguous()?)?.broadcast_add(&sum)?;
        }
    }
    Ok(sum)
}

#[test]
fn depthwise_convolution() {
    for (side, stride, padding, height, width) in [
        (3, 1, (1, 1), 6, 19),
        (3, 2, (0, 1), 16, 34),
        (3, 2, (1, 1), 9, 7),
        (5, 1, (2, 2), 5, 40),
        (5, 2, (1, 2), 12, 32),
        (5, 2, (2, 2), 7, 7),
        (3, 3, (2, 0), 8, 11),
        (1, 1, (0, 0), 3, 3),
        (5, 1, (4, 4), 1, 1),
    ] {
        let window = Window { stride, padding };
        let x = random(1, &[2, 3, height, width]);
        let vars = [x, random(2, &[3, 1, side, side]), random(3, &[3])];
        let what = format!("depthwise {side}x{side} of {height}x{width}, {window:?}");
        check(
            &what,
            &vars,
            |t| tensor::depthwise(&t[0], &t[1], Some(&t[2]), window),
            |t| depthwise(t, window),
        );
        check(
            &format!("{what}, no bias"),
            &vars[..2],
            |t| tensor::depthwise(&t[0], &t[1], None, window),
            |t| depthwise(t, window),
        );
    }
}

#[test]
fn depthwise_refuses_what_does_not_fit() {
    let x = random(1, &[1, 4, 6, 6]);
    for weight in [[3, 1, 3, 3], [4, 2, 3, 3], [4, 1, 3, 5], [4, 1, 9, 9]] {
        assert!(tensor::depthwise(&x, &random(2, &weight), None, Window::same(1)).is_err());
    }
    let weight = random(2, &[4, 1, 3, 3]);
    let still = Window {
        stride: 0,
        padding: (1, 1),
    };
    assert!(tensor::depthwise(&x, &weight, None, still).is_err());
    assert!(tensor::depthwise(&x, &weight, Some(&random(3, &[5])), Window::same(1)).is_err());
    assert!(
        tensor::group_norm(
            &x,
            &random(3, &[8]),
            &random(3, &[8]),
            2,
            1e-6,
            true,
            Order::ChannelsFirst
        )
        .is_err()
    );
    assert!(
        tensor::group_norm(
            &x,
            &random(3, &[4]),
            &random(3, &[4]),
            3,
            1e-6,
            true,
            Order::ChannelsFirst
        )
        .is_err()
    );
    assert!(tensor::add(&x, &random(2, &[1, 4, 6, 5])).is_err());
}

#[test]
fn relu_has_no_slope_at_zero_and_keeps_what_is_no_number() {
    let x = Var::new(&[-1f32, 0.0, 2.0, f32::NAN], &Device::Cpu).unwrap();
    let y = tensor::relu(&x).unwrap();
    let values: Vec<f32> = y.to_vec1().unwrap();
    assert_eq!(values[..3], [0.0, 0.0, 2.0]);
    assert!(values[3].is_nan());
    let gradients = y.sum_all().unwrap().backward().unwrap();
    let at_x: Vec<f32> = gradients.get(&x).unwrap().to_vec1().unwrap();
    assert_eq!(at_x, [0.0, 0.0, 1.0, 0.0]);
}

/// 1 where the number is above the bound, else 0.
fn above(x: &Tensor, bound: f64) -> Result<Tensor> {
    x.gt(bound)?.to_dtype(x.dtype())
}

#[test]
fn elementwise() {
    let large =
        [Var::from_tensor(&(random(1, &[2, 3, 70, 91]).as_tensor() * 4.0).unwrap()).unwrap()];
    check(
        "relu",
        &large,
        |t| tensor::relu(&t[0]),
        |t| &t[0] * above(&t[0], 0.0)?,
    );
    check(
        "relu6",
        &large,
        |t| tensor::relu6(&t[0]),
        |t| {
            let inside = (above(&t[0], 0.0)? - above(&t[0], 6.0)?)?;
            (&t[0] * inside)? + (above(&t[0], 6.0)? * 6.0)?
        },
    );
    check(
        "leaky_relu",
        &large,
        |t| tensor::leaky_relu(&t[0], 0.2),
        |t| &t[0] * ((above(&t[0], 0.0)? * 0.8)? + 0.2)?,
    );
    let vars = [random(1, &[2, 3, 70, 91]), random(2, &[2, 3, 70, 91])];
    // The first takes part three times.
    let sums = |t: &[Tensor], add: fn(&Tensor, &Tensor) -> Result<Tensor>| {
        add(&add(&t[0], &t[1])?, &add(&t[0], &t[0])?)
    };
    check(
        "add",
        &vars,
        |t| sums(t, tensor::add),
        |t| sums(t, |a, b| a + b),
    );
}

#[test]
fn upsampling() {
    for shape in [[2, 3, 5, 7], [1, 1, 1, 1], [1, 4, 32, 32]] {
        check(
            &format!("upsample2 {shape:?}"),
            &[random(1, &shape)],
            // A second use of the argument: gradients must add up.
            |t| {
                tensor::add(
                    &tensor::upsample2(&t[0], Order::ChannelsFirst)?,
                    &tensor::upsample2(&t[0], Order::ChannelsFirst)?,
                )
            },
            |t| {
                let [b, c, h, w] = shape;
                t[0].reshape((b, c, h, 1, w, 1))?
                    .broadcast_as((b, c, h, 2, w, 2))?
                    .reshape((b, c, 2 * h, 2 * w))?
                    * 2.0
            },
        );
    }
}

#[test]
fn max_pooling() {
    for shape in [[2, 3, 6, 8], [1, 2, 7, 5], [1, 4, 32, 32]] {
        check(
            &format!("max_pool2 {shape:?}"),
            &[random(1, &shape)],
            |t| tensor::max_pool2(&t[0], Order::ChannelsFirst),
            |t| {
                let [b, c, h, w] = [shape[0], shape[1], shape[2] / 2, shape[3] / 2];
                let even = t[0].narrow(2, 0, 2 * h)?.narrow(3, 0, 2 * w)?;
                even.contiguous()?
                    .reshape((b, c, h, 2, w, 2))?
                    .max(5)?
                    .max(3)
            },
        );
    }
}

#[test]
fn the_first_of_equal_numbers_gets_the_gradient() {
    let values: [f32; 16] = [
        1.0,
        1.0,
        0.0,
        2.0, //
        1.0,
        1.0,
        2.0,
        2.0, //
        0.0,
        0.0,
        f32::NAN,
        9.0, //
        3.0,
        3.0,
        0.0,
        0.0,
    ];
    let x = Var::from_slice(&values, (1, 1, 4, 4), &Device::Cpu).unwrap();
    let y = tensor::max_pool2(&x, Order::ChannelsFirst).unwrap();
    let found: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(found[..3], [1.0, 2.0, 3.0]);
    assert!(found[3].is_nan());
    let scaled = y * Tensor::new(&[[[[1f32, 2.0], [3.0, 4.0]]]], &Device::Cpu).unwrap();
    let grads = scaled.unwrap().sum_all().unwrap().backward().unwrap();
    let found: Vec<f32> = grads
        .get(&x)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let expected = [
        1.0, 0.0, 0.0, 2.0, //
        0.0, 0.0, 0.0, 0.0, //
        0.0, 0.0, 4.0, 0.0, //
        3.0, 0.0, 0.0, 0.0,
    ];
    assert_eq!(found, expected);
}
