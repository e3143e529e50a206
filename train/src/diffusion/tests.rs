//! Sampling with denoisers whose results are known.

use std::cell::RefCell;

use candle_core::{Device, Result, Tensor};

use super::*;

/// Says what a function says, and keeps how many rows it was asked of.
struct By<F>(F, RefCell<Vec<usize>>);

impl<F: Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>> By<F> {
    fn new(says: F) -> Self {
        Self(says, RefCell::default())
    }
}

impl<F: Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>> Denoiser for By<F> {
    fn predict(&self, x: &Tensor, t: &Tensor, classes: &Tensor) -> Result<Tensor> {
        self.1.borrow_mut().push(x.dim(0)?);
        (self.0)(x, t, classes)
    }

    fn null(&self) -> u32 {
        9
    }
}

const SHAPE: (usize, usize, usize, usize) = (2, 1, 2, 3);

fn normal(seed: u64) -> Tensor {
    let mut rng = vqlc_model::rng::Rng::new(seed);
    let values: Vec<f32> = (0..12).map(|_| rng.normal() as f32).collect();
    Tensor::from_vec(values, SHAPE, &Device::Cpu).unwrap()
}

fn classes() -> Tensor {
    Tensor::new(&[3u32, 4], &Device::Cpu).unwrap()
}

/// The way of `sampler` without guidance.
fn how(sampler: Sampler, steps: usize, eta: f64) -> Sampling {
    Sampling {
        sampler,
        steps,
        eta,
        guidance: 1.0,
    }
}

fn none(_: &[usize]) -> Result<Tensor> {
    candle_core::bail!("noise where none is added")
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let worst = (a - b).unwrap().abs().unwrap().max_all().unwrap();
    worst.to_scalar().unwrap()
}

/// Knows that the data is one point, so that all else is noise.
fn of_a_point(point: &Tensor) -> impl Denoiser {
    let schedule = NoiseSchedule::linear();
    let point = point.clone();
    By::new(move |x: &Tensor, t: &Tensor, _: &Tensor| {
        let step = t.to_vec1::<f32>()?[0] as usize;
        let left = schedule.alphas_cumprod()[step];
        (x - (&point * left.sqrt())?)? / (1.0 - left).sqrt()
    })
}

/// DDIM takes out of the start what is the point's, and leaves as much of the noise as step 0 has.
#[test]
fn ddim_finds_the_point() -> crate::Result<()> {
    let (point, start) = (normal(1), normal(2));
    let schedule = NoiseSchedule::linear();
    let left = schedule.alphas_cumprod();
    for steps in [1000, 50, 7, 1] {
        let first = left[(steps - 1) * (1000 / steps)];
        let noise = ((&start - (&point * first.sqrt())?)? / (1.0 - first).sqrt())?;
        let expected = ((&point * left[0].sqrt())? + (noise * (1.0 - left[0]).sqrt())?)?;
        let how = how(Sampler::Ddim, steps, 0.0);
        let found = sample(&of_a_point(&point), &how, &start, &classes(), none)?;
        assert!(distance(&found, &expected) < 1e-4, "{steps} steps");
        assert!(steps == 1 || distance(&found, &point) < 0.05);
    }
    Ok(())
}

/// DDPM ends on the point itself, whatever noise is added, and asks for none in its last step.
#[test]
fn ddpm_finds_the_point() -> crate::Result<()> {
    let point = normal(1);
    for steps in [1000, 30] {
        let mut calls = 0;
        let noise = |shape: &[usize]| {
            calls += 1;
            assert_eq!(shape, [2, 1, 2, 3]);
            Ok(normal(10 + calls))
        };
        let how = how(Sampler::Ddpm, steps, 0.0);
        let found = sample(&of_a_point(&point), &how, &normal(2), &classes(), noise)?;
        assert!(distance(&found, &point) < 1e-4);
        assert_eq!(calls as usize, steps - 1);
    }
    Ok(())
}

/// x' = x from x(0) to e x(0): errors fall with the step, and with its square.
#[test]
fn orders_of_the_flow_samplers() -> crate::Result<()> {
    let start = normal(1);
    let expected = (&start * std::f64::consts::E)?;
    let grows = By::new(|x: &Tensor, _: &Tensor, _: &Tensor| Ok(x.clone()));
    for (sampler, order) in [(Sampler::Euler, 2.0), (Sampler::Heun, 4.0)] {
        let error = |steps| -> crate::Result<f32> {
            let how = how(sampler, steps, 0.0);
            let found = sample(&grows, &how, &start, &classes(), none)?;
            Ok(distance(&found, &expected))
        };
        let ratio = error(8)? / error(16)?;
        assert!((ratio - order).abs() < 0.1 * order, "{sampler:?}: {ratio}");
    }
    Ok(())
}

/// x' = 2 t: Heun is right in one step; and the times asked of are those of the ends.
#[test]
fn heun_is_exact_where_velocities_are_linear() -> crate::Result<()> {
    let start = normal(1);
    let falls = By::new(|x: &Tensor, t: &Tensor, _: &Tensor| {
        x.zeros_like()?
            .broadcast_add(&(t * 2.0)?.reshape((2, 1, 1, 1))?)
    });
    for steps in [1, 3] {
        let how = how(Sampler::Heun, steps, 0.0);
        let found = sample(&falls, &how, &start, &classes(), none)?;
        assert!(distance(&found, &(&start + 1.0)?) < 1e-5);
    }
    Ok(())
}

/// What is said is the class: with 9 for none, 9 + s (c - 9).
#[test]
fn guidance_goes_past_the_class() -> crate::Result<()> {
    let x = normal(1);
    let t = Tensor::new(&[0.0f32, 1.0], &Device::Cpu)?;
    for (guidance, rows) in [(1.0, 2), (2.5, 4), (0.0, 4)] {
        let class = By::new(|x: &Tensor, _: &Tensor, classes: &Tensor| {
            let classes = classes.to_dtype(x.dtype())?;
            x.zeros_like()?
                .broadcast_add(&classes.reshape(((), 1, 1, 1))?)
        });
        let found = guided(&class, &x, &t, &classes(), guidance)?;
        let found = found.flatten_from(1)?.to_vec2::<f32>()?;
        for (found, class) in found.iter().zip([3.0, 4.0]) {
            let expected = 9.0 + guidance * (class - 9.0);
            assert!(found.iter().all(|&x| f64::from(x) == expected));
        }
        assert_eq!(*class.1.borrow(), [rows]);
    }
    Ok(())
}

#[test]
fn what_cannot_be_sampled_with_is_refused() {
    let silent = By::new(|x: &Tensor, _: &Tensor, _: &Tensor| x.zeros_like());
    let refused = |how: Sampling| sample(&silent, &how, &normal(1), &classes(), none).is_err();
    for sampler in [Sampler::Ddpm, Sampler::Ddim, Sampler::Euler, Sampler::Heun] {
        assert!(refused(how(sampler, 0, 0.0)));
        assert!(refused(how(sampler, 1001, 0.0)));
        assert!(refused(how(sampler, 10, f64::NAN)));
    }
    assert!(refused(how(Sampler::Ddim, 10, 1.1)));
    assert!(refused(how(Sampler::Ddpm, 10, 0.5)));
    assert!(refused(Sampling {
        guidance: f64::INFINITY,
        ..how(Sampler::Euler, 10, 0.0)
    }));
    assert!(!refused(how(Sampler::Euler, 10, 0.0)));
}

#[test]
fn rows_and_steps_must_be_what_they_are_of() {
    let (x, noise) = (normal(1), normal(2));
    let schedule = NoiseSchedule::linear();
    assert!(schedule.noised(&x, &noise, &[0, 999]).is_ok());
    assert!(schedule.noised(&x, &noise, &[0, 1000]).is_err());
    assert!(schedule.noised(&x, &noise, &[0]).is_err());
    assert!(flow::path(&x, &noise, &[0.5; 3]).is_err());
}
