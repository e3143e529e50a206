//! Cross-entropy against its definition.

mod support;

use candle_core::{DType, Device, Tensor};
use support::Random;
use vqlc_ops::{Error, cross_entropy, plain};

#[test]
fn loss_and_gradient_are_those_of_the_definition() {
    for (vocabulary, spread, smoothing) in [
        (1, 1.0, 0.0),
        (7, 3.0, 0.1),
        (1000, 1.0, 0.0),
        (1000, 60.0, 0.2),
        (100_003, 2.0, 0.0),
    ] {
        let mut random = Random(vocabulary as u64);
        let rows = 5;
        let logits: Vec<f32> = (0..rows * vocabulary)
            .map(|_| spread * random.normal())
            .collect();
        let targets: Vec<u32> = (0..rows).map(|_| random.below(vocabulary) as u32).collect();
        let mut made = logits.clone();
        let loss = cross_entropy(&mut made, &targets, smoothing).unwrap();
        let mut expected = 0.0;
        for (row, &target) in targets.iter().enumerate() {
            let row = row * vocabulary..(row + 1) * vocabulary;
            let (loss, gradient) =
                plain::cross_entropy(&logits[row.clone()], target as usize, f64::from(smoothing));
            expected += loss;
            for (made, expected) in made[row].iter().zip(gradient) {
                assert!(
                    (f64::from(*made) - expected).abs() < 2e-6,
                    "{made} {expected}"
                );
            }
        }
        let worst = 3e-6 * expected.abs().max(1.0);
        assert!((loss - expected).abs() < worst, "{loss} {expected}");
    }
}

#[test]
fn threads_and_tensors_change_nothing() {
    let (rows, vocabulary) = (9, 333);
    let mut random = Random(1);
    let logits: Vec<f32> = (0..rows * vocabulary).map(|_| random.normal()).collect();
    let targets: Vec<u32> = (0..rows as u32).collect();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let mut made = logits.clone();
        let loss = pool
            .build()
            .unwrap()
            .install(|| cross_entropy(&mut made, &targets, 0.1).unwrap());
        (loss, made)
    };
    let (loss, made) = on(1);
    assert_eq!((loss, &made), (on(3).0, &on(3).1));
    let tensor = |values: &[f32]| Tensor::from_slice(values, (rows, vocabulary), &Device::Cpu);
    let targets = Tensor::new(targets.clone(), &Device::Cpu).unwrap();
    let (sum, gradient) =
        vqlc_ops::tensor::cross_entropy(tensor(&logits).unwrap(), &targets, 0.1f32.into()).unwrap();
    assert_eq!(sum.to_scalar::<f32>().unwrap(), loss as f32);
    assert_eq!(
        gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        made
    );
    let wide = tensor(&logits).unwrap().to_dtype(DType::F64).unwrap();
    let error = vqlc_ops::tensor::cross_entropy(wide, &targets, 0.0).unwrap_err();
    assert!(error.to_string().contains("f32 logits"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut logits = [0.0; 6];
    let refused = cross_entropy(&mut logits, &[0, 3], 0.0);
    assert!(matches!(
        refused,
        Err(Error::Target {
            target: 3,
            vocabulary: 3
        })
    ));
    assert!(cross_entropy(&mut logits, &[0, 1, 0, 1], 0.0).is_err());
    assert!(cross_entropy(&mut logits, &[], 0.0).is_err());
    assert_eq!(logits, [0.0; 6]);
}
