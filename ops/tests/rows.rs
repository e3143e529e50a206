//! Softmax, standardisation and GELU against their formulas in f64, gradients against differences of these.

mod support;

use candle_core::{Device, Tensor, Var};
use support::uniform;
use vqlc_ops::tensor::{gelu, softmax, standardise};

const ROWS: usize = 5;
const COLUMNS: usize = 37;

/// Softmax of 3 times the numbers, of which row `row` sees the first `COLUMNS - ROWS + 1 + row` where `causal`.
fn expected_softmax(x: &[f64], causal: bool) -> Vec<f64> {
    let row = |(at, x): (usize, &[f64])| {
        let seen = match causal {
            true => COLUMNS - ROWS + 1 + at % ROWS,
            false => COLUMNS,
        };
        let powers: Vec<f64> = x[..seen].iter().map(|x| (3.0 * x).exp()).collect();
        let sum: f64 = powers.iter().sum();
        let hidden = std::iter::repeat_n(0.0, COLUMNS - seen);
        powers
            .iter()
            .map(|p| p / sum)
            .chain(hidden)
            .collect::<Vec<_>>()
    };
    x.chunks(COLUMNS).enumerate().flat_map(row).collect()
}

fn expected_standardise(x: &[f64]) -> Vec<f64> {
    let row = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / COLUMNS as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / COLUMNS as f64;
        let root = (variance + 1e-5).sqrt();
        x.iter().map(|x| (x - mean) / root).collect::<Vec<_>>()
    };
    x.chunks(COLUMNS).flat_map(row).collect()
}

/// erf by its Taylor series, good to 1e-12 below 4.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn expected_gelu(x: &[f64], tanh: bool) -> Vec<f64> {
    let inner = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
    let one = |x: f64| match tanh {
        true => 0.5 * x * (1.0 + inner(x).tanh()),
        false => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
    };
    x.iter().map(|&x| one(x)).collect()
}

fn check(
    name: &str,
    made: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
    expected: impl Fn(&[f64]) -> Vec<f64>,
) {
    let numbers: Vec<f32> = uniform(3, 2 * ROWS * COLUMNS)
        .iter()
        .map(|x| 3.0 * x)
        .collect();
    let exact: Vec<f64> = numbers.iter().map(|&x| f64::from(x)).collect();
    let weights: Vec<f64> = uniform(4, numbers.len())
        .into_iter()
        .map(f64::from)
        .collect();
    let shape = (2, ROWS, COLUMNS);
    let x = Var::from_vec(numbers, shape, &Device::Cpu).unwrap();
    let y = made(&x).unwrap();
    let values: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
    for (value, expected) in values.iter().zip(expected(&exact)) {
        assert!(
            (f64::from(*value) - expected).abs() < 2e-6,
            "{name}: {value} {expected}"
        );
    }
    let w = Tensor::from_iter(weights.iter().map(|&w| w as f32), &Device::Cpu).unwrap();
    let loss = (y * w.reshape(shape).unwrap()).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    let grads: Vec<f32> = grads
        .get(&x)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let loss = |x: &[f64]| -> f64 { expected(x).iter().zip(&weights).map(|(y, w)| y * w).sum() };
    for (at, grad) in grads.iter().enumerate().step_by(7) {
        let moved = |by: f64| {
            let mut x = exact.clone();
            x[at] += by;
            loss(&x)
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!(
            (f64::from(*grad) - slope).abs() < 1e-5,
            "{name} at {at}: {grad} {slope}"
        );
    }
}

#[test]
fn values_and_gradients_are_those_of_the_formulas() {
    check(
        "softmax",
        |x| softmax(x, 3.0, false),
        |x| expected_softmax(x, false),
    );
    check(
        "causal softmax",
        |x| softmax(x, 3.0, true),
        |x| expected_softmax(x, true),
    );
    check(
        "standardise",
        |x| standardise(x, 1e-5),
        expected_standardise,
    );
    check("gelu", |x| gelu(x, false), |x| expected_gelu(x, false));
    check(
        "gelu by tanh",
        |x| gelu(x, true),
        |x| expected_gelu(x, true),
    );
}

#[test]
fn far_numbers_are_no_trouble() {
    let x = Tensor::new(&[[-1e4f32, 0.0, 1e4], [5e3, 5e3, -5e3]], &Device::Cpu).unwrap();
    let y: Vec<f32> = softmax(&x, 1.0, false)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    assert_eq!(y, [0.0, 0.0, 1.0, 0.5, 0.5, 0.0]);
    for tanh in [false, true] {
        let y: Vec<f32> = gelu(&x, tanh)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let expected = [0.0f32, 0.0, 1e4, 5e3, 5e3, 0.0];
        let near = |(y, expected): (&f32, &f32)| (y - expected).abs() < 1e-30;
        assert!(y.iter().zip(&expected).all(near), "{y:?}");
    }
    assert!(
        softmax(&x.t().unwrap(), 1.0, true).is_err(),
        "rows that would see nothing"
    );
}
