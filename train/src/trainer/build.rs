//! Putting a run together.

use std::{fs, path::Path};

use candle_core::{Device, Tensor};
use vqlc_model::{
    VqganConfig,
    network::{Decoder, Encoder},
    rng::Rng,
};

use super::{Gan, TokenizerTrainer};
use crate::{
    Error, Params, Result, TokenizerConfig,
    backbone::{EfficientNet, efficientnet_lite0},
    checkpoint::Store,
    codebook::Codebook,
    config::{DataConfig, PerceptualKind, Precision},
    data::{Augment, Loader, LoaderOptions, Order, Pictures, Source},
    files::write_whole,
    losses::{discriminator::Discriminator, lpips::Lpips, perceptual::perceptual_loss},
    metrics::Window,
    optim::{Adam, AdamConfig, Ema, Schedule},
    quantizer::{Kind, Quantizer, QuantizerConfig},
    run::{Parts, Progress, Traces},
};

/// Batches prepared ahead.
const AHEAD: usize = 4;
const MIB: u64 = 1 << 20;
/// Tokens an entry in a window over which utilisation is shown.
const WINDOW: u64 = 4;

/// The network a perceptual loss stands on.
pub(super) enum Perceptual {
    Lpips(Lpips),
    EfficientNet(EfficientNet),
}

impl Perceptual {
    fn new(config: &TokenizerConfig, device: &Device) -> Result<Option<Self>> {
        let loss = &config.loss;
        if loss.perceptual == 0.0 || loss.perceptual_network == PerceptualKind::None {
            return Ok(None);
        }
        let files = &loss.perceptual_weights;
        let wants = |count: &str| {
            Error::Config(format!(
                "loss.perceptual_weights (--perceptual-weights) names {} files, expected {count}; or loss.perceptual_network = \"none\"",
                files.len()
            ))
        };
        Ok(Some(match loss.perceptual_network {
            PerceptualKind::Lpips if files.is_empty() => {
                return Err(wants(
                    "torchvision's VGG16 and the linear layers of lpips (vgg.pth), or one that holds both",
                ));
            }
            PerceptualKind::Lpips => {
                Self::Lpips(Lpips::read(files, device, config.run.precision.dtype())?)
            }
            _ => match files.as_slice() {
                [file] => Self::EfficientNet(efficientnet_lite0(
                    file,
                    device,
                    config.run.precision.dtype(),
                )?),
                _ => return Err(wants("the one of EfficientNet-Lite0")),
            },
        }))
    }

    /// The mean distance of `made` from `target`, `[b, 3, h, w]` in [-1, 1].
    pub(super) fn loss(&self, made: &Tensor, target: &Tensor) -> Result<Tensor> {
        match self {
            Self::Lpips(lpips) => lpips.loss(made, target),
            Self::EfficientNet(network) => perceptual_loss(network, made, target),
        }
    }
}

impl TokenizerTrainer {
    /// Prepares a run in the folder `out`: a new one, or with `resume` the one there, from its newest checkpoint.
    ///
    /// # Errors
    /// [`Error::RunExists`], [`Error::NoCheckpoint`], [`Error::Config`]; files that are not what they should be.
    pub fn new(
        mut config: TokenizerConfig,
        out: &Path,
        device: &Device,
        resume: bool,
        progress: &mut dyn Progress,
    ) -> Result<Self> {
        let folder = out.join("checkpoints");
        if !resume && folder.exists() {
            return Err(Error::RunExists { folder: out.into() });
        }
        check_precision(config.run.precision, device)?;
        let images = config.data.images.as_deref().ok_or_else(|| {
            Error::Config("data.images is missing: name the folder to learn from".into())
        })?;
        let source = Source::new(
            Pictures::scan(images, true)?,
            config.data.cache_mib as u64 * MIB,
        );
        let book = config.quantizer.codebook.as_deref().map(Codebook::read);
        let book = book.transpose()?;
        if let Some(book) = &book {
            (config.model.n_codes, config.model.code_dim) = (book.codes(), book.dim());
        }
        config.check()?;
        let store = Store::new(&folder, config.checkpoint.keep);
        let found = match resume.then(|| store.newest()).transpose()? {
            Some(None) => return Err(Error::NoCheckpoint { folder: out.into() }),
            found => found.flatten(),
        };
        let first_step = found.as_ref().map_or(0, |found| found.step);
        fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;

        let (seed, compute) = (config.run.seed, config.run.precision.dtype());
        let ((encoder, decoder), network) = Params::random(seed, device, compute, |vb| {
            Ok((
                Encoder::new(&config.model, vb.clone())?,
                Decoder::new(&config.model, vb)?,
            ))
        })?;
        let book = match book {
            Some(book) => Some(book.tensor(&Device::Cpu)?),
            None if config.quantizer.kind == Kind::Lc => {
                progress.note("no --codebook: the entries are drawn from a normal distribution, which costs quality (paper table 6)");
                Some(random_book(&config.model, seed)?)
            }
            None => None,
        };
        let quantizer = Quantizer::new(&quantizer_config(&config), book.as_ref(), seed, device)?;
        let params = network.joined(quantizer.params().clone());
        let last_layer = params.get("decoder.conv_out.weight").cloned();
        let last_layer = last_layer
            .ok_or_else(|| Error::Config("the decoder has no last convolution".into()))?;
        let adam_config = AdamConfig::of(&config.optimizer);
        let gan = (config.loss.gan > 0.0)
            .then(|| -> Result<Gan> {
                let section = &config.discriminator;
                let (network, params) =
                    Discriminator::new(section.layers, section.channels, seed, device, compute)?;
                Ok(Gan {
                    network,
                    params,
                    adam: Adam::new(adam_config)?,
                })
            })
            .transpose()?;
        let mut trainer = Self {
            perceptual: Perceptual::new(&config, device)?,
            ema: (config.run.ema > 0.0)
                .then(|| Ema::new(config.run.ema, &params))
                .transpose()?,
            adam: Adam::new(adam_config)?,
            schedule: Schedule::new(&config.optimizer, config.run.steps)?,
            traces: Traces::new(out, first_step)?,
            usage: Window::new(config.model.n_codes, WINDOW * config.model.n_codes as u64),
            loader: Loader::start(
                &source,
                loader_options(&config),
                first_step.saturating_mul(config.run.accumulate as u64),
            )?,
            store,
            parts: Parts::new(config.run.accumulate, device)?,
            out: out.into(),
            device: device.clone(),
            step: 0,
            encoder,
            decoder,
            quantizer,
            params,
            last_layer,
            gan,
            source,
            config,
        };
        if let Some(found) = &found {
            trainer.load(found, progress)?;
        }
        // Last: a configuration that does not fit the run's checkpoint must not take the place of the one that does.
        write_whole(
            &out.join("config.toml"),
            trainer.config.to_toml()?.as_bytes(),
        )?;
        Ok(trainer)
    }
}

/// That `device` multiplies in `precision`.
fn check_precision(precision: Precision, device: &Device) -> Result<()> {
    if precision == Precision::Bf16 && device.is_cpu() && !vqlc_ops::tensor::bf16_on_cpu() {
        let why = "run.precision is bf16, which this processor does not have (AMX): set it to f32";
        return Err(Error::Config(why.into()));
    }
    Ok(())
}

pub(super) fn loader_options(config: &TokenizerConfig) -> LoaderOptions {
    LoaderOptions {
        size: config.data.size as u32,
        batch: config.run.batch,
        order: order(config, config.run.seed),
        threads: config.data.workers,
        ahead: AHEAD,
    }
}

/// Crops drawn from `seed`.
pub(super) fn order(config: &TokenizerConfig, seed: u64) -> Order {
    Order::Shuffled {
        seed,
        augment: augment(&config.data),
    }
}

/// How crops are drawn.
pub(super) fn augment(data: &DataConfig) -> Augment {
    Augment {
        min_scale: data.min_scale,
        max_scale: data.max_scale,
        flip: data.flip,
    }
}

fn quantizer_config(config: &TokenizerConfig) -> QuantizerConfig {
    let section = &config.quantizer;
    QuantizerConfig {
        kind: section.kind,
        codes: config.model.n_codes,
        dim: config.model.embed_dim,
        projector: section.projector,
        codebook_trainable: section.codebook_trainable,
        beta: section.beta,
        fc_dim: section.fc_dim,
        ema_decay: section.ema_decay,
        ema_eps: section.ema_eps,
    }
}

/// A static codebook of normal numbers, a function of the seed.
fn random_book(model: &VqganConfig, seed: u64) -> Result<Tensor> {
    let mut rng = Rng::new(seed ^ 0x626f_6f6b);
    let count = model.n_codes * model.code_dim;
    let values: Vec<f32> = (0..count).map(|_| rng.normal() as f32).collect();
    Ok(Tensor::from_vec(
        values,
        (model.n_codes, model.code_dim),
        &Device::Cpu,
    )?)
}
