//! The network on pictures made up here: the same ids whatever the batch, the threads and (but for near ties) the device.

use anyhow::ensure;
use rayon::ThreadPoolBuilder;
use vqlc_model::{
    DeviceSpec, Precision, Tokenizer, devices, file::ModelFile, reference::Comparison, rng::Rng,
};

use super::Outcome;
use crate::text;

/// A few pictures with flat, smooth and noisy parts: `[count, 3, side, side]` in [-1, 1].
pub(super) struct Pictures {
    pixels: Vec<f32>,
    count: usize,
    side: usize,
}

impl Pictures {
    pub(super) fn new(factor: usize) -> Self {
        let (count, side) = (3, 8 * factor);
        let mut rng = Rng::new(4);
        let mut pixels = Vec::with_capacity(count * 3 * side * side);
        for _ in 0..count * 3 {
            let (fx, fy, phase, level) = (
                8.0 * rng.uniform(),
                8.0 * rng.uniform(),
                6.0 * rng.uniform(),
                rng.uniform() - 0.5,
            );
            for y in 0..side {
                for x in 0..side {
                    let (u, v) = (x as f64 / side as f64, y as f64 / side as f64);
                    let smooth = 0.4 * (fx * u + fy * v + phase).sin() + level;
                    let noise = if v > 0.5 { 0.3 * rng.normal() } else { 0.0 };
                    let flat = u > 0.75;
                    pixels.push(if flat { level } else { smooth + noise }.clamp(-1.0, 1.0) as f32);
                }
            }
        }
        Self {
            pixels,
            count,
            side,
        }
    }

    fn encode(&self, tokenizer: &Tokenizer) -> vqlc_model::Result<Vec<u32>> {
        tokenizer.encode(&self.pixels, self.count, self.side, self.side)
    }
}

/// On the CPU: all pictures as one batch on all threads, against one by one on one thread.
pub(super) fn independence(model: &ModelFile, pictures: &Pictures) -> Outcome {
    Outcome::of(try_independence(model, pictures))
}

fn try_independence(model: &ModelFile, pictures: &Pictures) -> anyhow::Result<Outcome> {
    let tokenizer = Tokenizer::new(model, &DeviceSpec::Cpu.open()?)?;
    let side = pictures.side;
    let together = pictures.encode(&tokenizer)?;
    let one_thread = ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut alone = Vec::new();
    for picture in pictures.pixels.chunks_exact(3 * side * side) {
        alone.extend(one_thread.install(|| tokenizer.encode(picture, 1, side, side))?);
    }
    let differ = together.iter().zip(&alone).filter(|(a, b)| a != b).count();
    ensure!(
        alone.len() == together.len() && differ == 0,
        "{differ} of {} ids differ",
        together.len()
    );

    let grid = side / tokenizer.factor();
    let together_back = tokenizer.decode(&together, pictures.count, grid, grid)?;
    let mut alone_back = Vec::new();
    for ids in together.chunks_exact(grid * grid) {
        alone_back.extend(one_thread.install(|| tokenizer.decode(ids, 1, grid, grid))?);
    }
    ensure!(
        together_back == alone_back,
        "decoded pixels depend on the batch or the number of threads"
    );
    Ok(Outcome::ok(format!(
        "{} and the pixels decoded from them",
        text::things(together.len() as u64, "id")
    )))
}

/// The same pictures on another device, in `precision`, and on the CPU.
pub(super) fn devices(
    model: &ModelFile,
    device: DeviceSpec,
    precision: Precision,
    pictures: &Pictures,
) -> Outcome {
    Outcome::of(try_devices(model, (device, precision), pictures))
}

fn try_devices(
    model: &ModelFile,
    device: (DeviceSpec, Precision),
    pictures: &Pictures,
) -> anyhow::Result<Outcome> {
    let found = devices::compare(
        model,
        device,
        &pictures.pixels,
        pictures.count,
        pictures.side,
        pictures.side,
    )?;
    let detail = format!(
        "{} of {} ids differ, {} of them not near ties; z differs by {:.1e}, pixels by {:.1e} (limit {:.0e})",
        found.ids_differ,
        found.ids,
        found.ids_differ - found.near_ties,
        found.latent_error,
        found.pixel_error,
        found.limit
    );
    Ok(Outcome {
        ok: found.passed(),
        detail,
    })
}

/// Values and gradients of a part of training, against stored ones: the worst of them in words.
pub(super) fn training(made: vqlc_train::Result<Vec<Comparison>>) -> Outcome {
    let made = match made {
        Ok(made) => made,
        Err(error) => return Outcome::failed(error.to_string()),
    };
    let share = |c: &Comparison| match c.error {
        0.0 => 0.0,
        error => error / c.limit,
    };
    // What is not a number is worse than all.
    let worst = made.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
    let Some(worst) = worst else {
        return Outcome::failed("nothing was compared");
    };
    let failed = made.iter().filter(|c| !c.passed()).count();
    Outcome {
        ok: failed == 0,
        detail: format!(
            "{}, {failed} beyond their limits, the worst {}: error {:.2e}, limit {:.2e}",
            text::things(made.len() as u64, "tensor"),
            worst.key,
            worst.error,
            worst.limit
        ),
    }
}
