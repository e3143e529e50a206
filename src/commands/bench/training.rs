//! Steps of training, all of it: pictures from files, LPIPS, adversary, adaptive weight, a codebook through its projector.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use vqlc_model::{
    DeviceSpec,
    image::{Icc, OutFormat, Rgb, write},
    rng::Rng,
};
use vqlc_train::{
    TokenizerConfig,
    losses::lpips::random_weights,
    run::{Line, Progress},
    trainer::TokenizerTrainer,
};

use super::{BenchArgs, Measured, What};

/// Steps before the measurement begins, which choose algorithms and fill caches.
const WARM_UP: usize = 3;
const LEAST_STEPS: usize = 3;
/// Pictures in the folder, as many as are asked for more than once.
const PICTURES: u64 = 64;

/// Trains for `budget` after the warm-up, at least three steps, and measures each.
pub(super) fn steps(args: &BenchArgs, budget: Duration) -> anyhow::Result<Measured> {
    // Ctrl-C ends the run, and the folder goes with it.
    crate::interrupt::install()?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let cuda = args.network.device() != DeviceSpec::Cpu;
    let side = args.size as usize;
    let batch = args.batch.map_or(if cuda { 64 } else { 4 }, usize::from);
    let ch = args.ch.unwrap_or(128);
    let pictures = folder.path().join("pictures");
    draw(&pictures, side)?;
    let weights = folder.path().join("lpips.safetensors");
    random_weights(&weights, 1)?;
    let precision = args.network.precision;
    let mut set = vec![
        format!("data.images={}", quoted(&pictures)),
        format!("data.size={side}"),
        format!("data.workers={}", rayon::current_num_threads().min(8)),
        format!("model.ch={ch}"),
        format!("model.n_codes={}", args.codes),
        format!("run.batch={batch}"),
        "run.accumulate=1".into(),
        format!("run.precision={precision}"),
        "warm_start.steps=0".into(),
        format!("loss.perceptual_weights=[{}]", quoted(&weights)),
        "discriminator.start=0".into(),
        "discriminator.generator_start=0".into(),
        "discriminator.ramp=1".into(),
        "watch.log_every=1".into(),
        "watch.grid_every=0".into(),
        // The one that a run ends with is enough to be waited for.
        "checkpoint.every=1000000000".into(),
    ];
    if !ch.is_multiple_of(32) {
        // As `VqganConfig::paper_with_width`.
        set.push("model.norm_group_size=4".into());
    }
    let config = TokenizerConfig::parse(TokenizerConfig::preset_text("paper-f16")?, &set)?;
    let device = args.network.device().open()?;
    let mut watch = Watch {
        began: None,
        budget,
        rates: Vec::new(),
        seen: 0,
    };
    let run: PathBuf = folder.path().join("run");
    TokenizerTrainer::new(config, &run, &device, false, &mut watch)?.run(&mut watch)?;
    let mut rates = watch.rates;
    rates.sort_by(f64::total_cmp);
    let (Some(&best), Some(&median)) = (rates.last(), rates.get(rates.len() / 2)) else {
        anyhow::bail!("no step was measured");
    };
    Ok(Measured {
        what: What::Train,
        unit: "pictures",
        best,
        median,
        runs: rates.len(),
        detail: format!(
            "ch {ch}, {side}x{side} pixels, batch {batch}, {precision}, {} codes, median step {:.1} ms",
            args.codes,
            1e3 * batch as f64 / median
        ),
    })
}

/// Takes each step's speed, and ends the run when there are enough.
struct Watch {
    began: Option<Instant>,
    budget: Duration,
    rates: Vec<f64>,
    seen: usize,
}

impl Progress for Watch {
    fn step(&mut self, line: &dyn Line) {
        self.seen += 1;
        if self.seen > WARM_UP {
            self.rates.push(line.pictures_per_s());
        } else {
            self.began = Some(Instant::now());
        }
    }

    fn note(&mut self, _: &str) {}

    fn checkpoint(&mut self, _: u64, _: &Path) {}

    fn stop_requested(&self) -> bool {
        crate::interrupt::requested()
            || self.rates.len() >= LEAST_STEPS
                && self
                    .began
                    .is_some_and(|began| began.elapsed() >= self.budget)
    }
}

/// Pictures with coarse patches and noise, a little larger than what is cut out of them.
fn draw(folder: &Path, side: usize) -> anyhow::Result<()> {
    std::fs::create_dir(folder).with_context(|| folder.display().to_string())?;
    for picture in 0..PICTURES {
        let (width, height) = (side + side / 8, side + side / 16);
        let mut rng = Rng::new(picture);
        let patches: Vec<u8> = (0..3 * 64).map(|_| rng.next_u64() as u8).collect();
        let mut data = Vec::with_capacity(3 * width * height);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let patch = 8 * y / height * 8 + 8 * x / width;
            let noise = rng.next_u64() as u8 / 8;
            data.extend(patches[3 * patch..][..3].iter().map(|p| p / 2 + noise));
        }
        let rgb = Rgb {
            width: width as u32,
            height: height as u32,
            data,
            icc: Icc::default(),
        };
        let path = folder.join(format!("{picture}.jpg"));
        let file = std::fs::File::create(&path).with_context(|| path.display().to_string())?;
        write(&rgb, OutFormat::Jpeg { quality: 90 }, file)?;
    }
    Ok(())
}

fn quoted(path: &Path) -> String {
    toml::Value::String(path.to_string_lossy().into_owned()).to_string()
}
