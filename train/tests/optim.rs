//! States of the optimiser, gradients of several parts, and averaged weights.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use vqlc_model::params::Tensors;
use vqlc_train::{
    Params, Result,
    optim::{Adam, AdamConfig, Decay, Ema, Grads, Schedule},
};

fn params(seed: u64) -> Params {
    let shapes = [("a.weight", vec![40, 30]), ("b", vec![7])];
    let build = |vb: candle_nn::VarBuilder| {
        for (name, shape) in &shapes {
            let normal = candle_nn::Init::Randn {
                mean: 0.0,
                stdev: 1.0,
            };
            vb.get_with_hints(shape.as_slice(), name, normal)?;
        }
        Ok(())
    };
    Params::random(seed, &Device::Cpu, DType::F32, build)
        .unwrap()
        .1
}

/// Gradients of `mean(sin(p * scale))`, which differ from step to step as the parameters do.
fn grads(params: &Params, scale: f64) -> Result<Grads> {
    let mut loss = Tensor::new(0f32, &Device::Cpu)?;
    for (_, var) in params.iter() {
        loss = (loss + (var.as_tensor() * scale)?.sin()?.mean_all()?)?;
    }
    Grads::of(&loss.backward()?, params)
}

fn bits(tensors: &Tensors) -> BTreeMap<String, Vec<u32>> {
    tensors
        .iter()
        .map(|(name, t)| {
            let values: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
            (name.clone(), values.into_iter().map(f32::to_bits).collect())
        })
        .collect()
}

#[test]
fn a_saved_optimiser_and_average_go_on_bit_for_bit() -> Result<()> {
    let (whole, halves) = (params(3), params(3));
    let mut adam = Adam::new(AdamConfig::default())?;
    let mut ema = Ema::new(0.99, &whole)?;
    for _ in 0..6 {
        adam.step(&whole, &grads(&whole, 2.0)?, 1e-2)?;
        ema.update(&whole)?;
    }
    let mut first = Adam::new(AdamConfig::default())?;
    let mut first_ema = Ema::new(0.99, &halves)?;
    for _ in 0..3 {
        first.step(&halves, &grads(&halves, 2.0)?, 1e-2)?;
        first_ema.update(&halves)?;
    }
    let (state, ema_state) = (first.state(&halves)?, first_ema.state()?);
    let rest = params(4);
    rest.set(&halves.values()?)?;
    let mut second = Adam::new(AdamConfig::default())?;
    second.load_state(&rest, &state)?;
    let mut second_ema = Ema::new(0.99, &rest)?;
    second_ema.load_state(&ema_state)?;
    for _ in 0..3 {
        second.step(&rest, &grads(&rest, 2.0)?, 1e-2)?;
        second_ema.update(&rest)?;
    }
    assert_eq!(second.steps(), 6);
    assert_eq!(bits(&whole.values()?), bits(&rest.values()?));
    assert_eq!(bits(ema.weights()), bits(second_ema.weights()));
    Ok(())
}

#[test]
fn a_state_that_does_not_belong_is_refused() -> Result<()> {
    let params = params(3);
    let mut adam = Adam::new(AdamConfig::default())?;
    adam.step(&params, &grads(&params, 1.0)?, 1e-2)?;
    let good = adam.state(&params)?;
    let mut missing = good.clone();
    missing.remove("v.b");
    let mut shape = good.clone();
    shape.insert("m.b".into(), Tensor::zeros(8, DType::F32, &Device::Cpu)?);
    let mut extra = good.clone();
    extra.insert("x".into(), Tensor::zeros(8, DType::F32, &Device::Cpu)?);
    for bad in [missing, shape, extra, Tensors::new()] {
        assert!(adam.load_state(&params, &bad).is_err());
    }
    assert_eq!(adam.steps(), 1);
    adam.load_state(&params, &good)
}

#[test]
fn gradients_of_two_parts_add_up_and_are_clipped() -> Result<()> {
    let params = params(5);
    let (one, two) = (grads(&params, 1.0)?, grads(&params, 3.0)?);
    let mut sum = one.clone();
    sum.add(two.clone())?;
    sum.scale(0.5)?;
    let mut squares = 0f64;
    for (name, grad) in sum.iter() {
        let pair = [&one, &two].map(|g| bits_to_f64(g.get(name)));
        for ((a, b), mean) in pair[0].iter().zip(&pair[1]).zip(bits_to_f64(Some(grad))) {
            assert!((0.5 * (a + b) - mean).abs() < 1e-7);
            squares += mean * mean;
        }
    }
    let norm = sum.global_norm()?;
    assert!((norm - squares.sqrt()).abs() < 1e-9 * norm);
    assert_eq!(sum.clip(2.0 * norm)?, norm);
    assert_eq!(sum.global_norm()?, norm);
    assert_eq!(sum.clip(0.25 * norm)?, norm);
    assert!((sum.global_norm()? / norm - 0.25).abs() < 1e-6);
    assert!(sum.clip(0.0).is_err());
    Ok(())
}

fn bits_to_f64(tensor: Option<&Tensor>) -> Vec<f64> {
    let values: Vec<f32> = tensor.unwrap().flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
}

#[test]
fn the_average_follows_its_formula() -> Result<()> {
    let params = params(6);
    let mut ema = Ema::new(0.15, &params)?;
    let mut expected = bits_to_f64(params.get("b").map(|v| v.as_tensor()));
    for decay in [0.1, 0.15, 0.15] {
        let moved = params
            .values()?
            .into_iter()
            .map(|(name, value)| Ok((name, (value * 1.5)?)))
            .collect::<Result<Tensors>>()?;
        params.set(&moved)?;
        ema.update(&params)?;
        let values = bits_to_f64(moved.get("b"));
        for (average, value) in expected.iter_mut().zip(values) {
            *average = decay * *average + (1.0 - decay) * value;
        }
    }
    let found = bits_to_f64(ema.weights().get("b"));
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    Ok(())
}

#[test]
fn what_is_out_of_range_is_refused() {
    for config in [
        AdamConfig {
            betas: [1.0, 0.9],
            ..Default::default()
        },
        AdamConfig {
            eps: 0.0,
            ..Default::default()
        },
        AdamConfig {
            weight_decay: -1.0,
            ..Default::default()
        },
    ] {
        assert!(Adam::new(config).is_err());
    }
    assert!(Ema::new(1.0, &Params::default()).is_err());
    let good = Schedule {
        base: 1e-3,
        min: 0.0,
        warmup: 5.0,
        hold: 0.0,
        total: 5.0,
        decay: Decay::Linear,
    };
    good.check().unwrap();
    assert_eq!((good.at(2.5), good.at(5.0)), (5e-4, 0.0));
    let falls = Schedule {
        total: 13.0,
        ..good
    };
    assert_eq!(
        (falls.at(5.0), falls.at(7.0), falls.at(13.0)),
        (1e-3, 7.5e-4, 0.0)
    );
    assert!(Schedule { total: 4.0, ..good }.check().is_err());
    assert!(
        Schedule {
            base: f64::NAN,
            ..good
        }
        .check()
        .is_err()
    );
}
