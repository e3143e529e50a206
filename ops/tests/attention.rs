//! Attention against its formula in f64, gradients against differences of it.

mod support;

use candle_core::{DType, Device, Tensor, Var};
use support::uniform;
use vqlc_ops::tensor::attention;

const BATCH: usize = 2;
const HEADS: usize = 3;
const SIDE: usize = 5;

/// `[batch, queries, heads, side]` of query, key and value `[batch, tokens, heads, side]`.
fn expected(q: &[f64], k: &[f64], v: &[f64], causal: bool) -> Vec<f64> {
    let row = HEADS * SIDE;
    let (queries, keys) = (q.len() / BATCH / row, k.len() / BATCH / row);
    let mut out = vec![0.0; q.len()];
    for batch in 0..BATCH {
        for head in 0..HEADS {
            let of = |tokens: usize, token: usize| (batch * tokens + token) * row + head * SIDE;
            for query in 0..queries {
                let seen = if causal {
                    keys - queries + query + 1
                } else {
                    keys
                };
                let at = of(queries, query);
                let power = |key: usize| {
                    let products = (0..SIDE).map(|d| q[at + d] * k[of(keys, key) + d]);
                    (products.sum::<f64>() / (SIDE as f64).sqrt()).exp()
                };
                let powers: Vec<f64> = (0..seen).map(power).collect();
                let sum: f64 = powers.iter().sum();
                for (key, power) in powers.iter().enumerate() {
                    for d in 0..SIDE {
                        out[at + d] += power / sum * v[of(keys, key) + d];
                    }
                }
            }
        }
    }
    out
}

fn numbers(seed: u64, tokens: usize) -> Vec<f32> {
    let numbers = uniform(seed, BATCH * tokens * HEADS * SIDE);
    numbers.into_iter().map(|x| 2.0 * x).collect()
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn check(queries: usize, keys: usize, causal: bool) {
    let inputs = [numbers(1, queries), numbers(2, keys), numbers(3, keys)];
    let vars: Vec<Var> = (inputs.iter().zip([queries, keys, keys]))
        .map(|(numbers, tokens)| {
            Var::from_slice(numbers, (BATCH, tokens, HEADS, SIDE), &Device::Cpu).unwrap()
        })
        .collect();
    let by_head = |var: &Var| var.transpose(1, 2).unwrap();
    let y = attention(
        &by_head(&vars[0]),
        &by_head(&vars[1]),
        &by_head(&vars[2]),
        causal,
    )
    .unwrap();
    assert_eq!(y.dims(), [BATCH, queries, HEADS * SIDE]);
    let [q, k, v] = [0, 1, 2].map(|i: usize| wide(&inputs[i]));
    for (found, right) in values(&y).iter().zip(expected(&q, &k, &v, causal)) {
        assert!((f64::from(*found) - right).abs() < 2e-6, "{found} {right}");
    }

    let weights = uniform(4, y.elem_count());
    let of_loss = Tensor::from_slice(&weights, y.shape(), &Device::Cpu).unwrap();
    let gradients = (y * of_loss)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let loss = |inputs: &[Vec<f64>; 3]| -> f64 {
        let y = expected(&inputs[0], &inputs[1], &inputs[2], causal);
        y.iter().zip(&weights).map(|(y, &w)| y * f64::from(w)).sum()
    };
    for (which, var) in vars.iter().enumerate() {
        let gradient = values(gradients.get(var).unwrap());
        for at in (0..gradient.len()).step_by(7) {
            let moved = |by: f64| {
                let mut inputs = [q.clone(), k.clone(), v.clone()];
                inputs[which][at] += by;
                loss(&inputs)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let found = f64::from(gradient[at]);
            assert!(
                (found - slope).abs() < 1e-5,
                "input {which} at {at}: {found} {slope}"
            );
        }
    }
}

#[test]
fn values_and_gradients_are_those_of_the_formula() {
    check(4, 4, false);
    check(4, 4, true);
    check(2, 7, true);
    check(5, 3, false);
}

#[test]
fn bf16_is_near_and_stays_bf16() {
    let shape = (BATCH, HEADS, 6, SIDE);
    let inputs = [1, 2, 3].map(|seed| {
        let numbers = numbers(seed, 6);
        Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
    });
    let exact = attention(&inputs[0], &inputs[1], &inputs[2], true).unwrap();
    let rounded = inputs.map(|x| x.to_dtype(DType::BF16).unwrap());
    let found = attention(&rounded[0], &rounded[1], &rounded[2], true).unwrap();
    assert_eq!(found.dtype(), DType::BF16);
    let found = values(&found.to_dtype(DType::F32).unwrap());
    for (found, exact) in found.iter().zip(values(&exact)) {
        assert!((found - exact).abs() < 0.03, "{found} {exact}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let zeros = |shape: (usize, usize, usize, usize)| {
        Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
    };
    let q = zeros((2, 3, 4, 5));
    let cases = [
        (
            zeros((2, 3, 4, 6)),
            zeros((2, 3, 4, 6)),
            false,
            "does not fit",
        ),
        (
            zeros((2, 2, 4, 5)),
            zeros((2, 2, 4, 5)),
            false,
            "does not fit",
        ),
        (
            zeros((2, 3, 4, 5)),
            zeros((2, 3, 6, 5)),
            false,
            "does not fit",
        ),
        (
            zeros((2, 3, 3, 5)),
            zeros((2, 3, 3, 5)),
            true,
            "would see none",
        ),
    ];
    for (k, v, causal, why) in cases {
        let error = attention(&q, &k, &v, causal).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
