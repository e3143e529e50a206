//! The sections of a training configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use vqlc_model::Precision;

use crate::{optim::Decay, quantizer::Kind};

/// `[run]`: how long and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Optimiser steps of the generator.
    pub steps: u64,
    /// Pictures of one forward pass.
    pub batch: usize,
    /// Forward passes whose mean gradient makes one step. On the CPU as many at once as there are threads, each with activations of its
    /// own: memory is bounded by `batch`.
    pub accumulate: usize,
    /// How products are taken.
    pub precision: Precision,
    /// What every draw depends on: weights, order, crops, noise.
    pub seed: u64,
    /// Decay of the running mean of the weights that is exported; 0 exports the weights themselves.
    pub ema: f64,
}

/// `[data]`: the pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The folder to learn from.
    pub images: Option<PathBuf>,
    /// A folder to measure on at the end, centre crops of `eval_size`.
    pub eval: Option<PathBuf>,
    /// EfficientNet-Lite0's weights, for the perceptual distances measured there.
    pub eval_weights: Option<PathBuf>,
    /// Side of the square crops, pixels; a multiple of the network's factor.
    pub size: usize,
    /// Side of the crops measured, pixels.
    pub eval_size: usize,
    /// The short side is resized to between `min_scale` and `max_scale` times `size` before the crop.
    pub min_scale: f64,
    /// See `min_scale`.
    pub max_scale: f64,
    /// Whether half of the crops are mirrored.
    pub flip: bool,
    /// Threads that read and decode.
    pub workers: usize,
    /// Bytes of decoded pictures kept in memory, MiB.
    pub cache_mib: usize,
}

/// `[quantizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizerSection {
    /// Which quantizer.
    pub kind: Kind,
    /// The static codebook B, made by `vqlc codebook`; `model.n_codes` and `model.code_dim` are then taken from it. For vq and ema
    /// a file is where the table starts; without one it is drawn at random (for lc from a normal distribution, which the paper warns of).
    pub codebook: Option<PathBuf>,
    /// lc: whether B is projected (else `code_dim` must be `embed_dim`).
    pub projector: bool,
    /// lc: whether B is trained too.
    pub codebook_trainable: bool,
    /// Weight of the entries' side of the quantizer loss (paper: 0.33).
    pub beta: f64,
    /// fc: the dimension searched in.
    pub fc_dim: usize,
    /// ema: decay.
    pub ema_decay: f64,
    /// ema: Laplace smoothing.
    pub ema_eps: f64,
}

/// `[warm_start]`: an autoencoder first, then a projector that fits it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmStartConfig {
    /// Steps without quantising; 0 starts with the quantizer.
    pub steps: u64,
    /// Noise on the latent meanwhile, in its standard deviations.
    pub noise: f64,
    /// Whether the projector then gets the mean and covariance of the latents (lc).
    pub align: bool,
    /// Latents this takes.
    pub latents: usize,
}

/// The networks a perceptual loss can stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PerceptualKind {
    /// None.
    None,
    /// LPIPS on VGG16 (Zhang et al. 2018).
    Lpips,
    /// EfficientNet-Lite0.
    Efficientnet,
}

/// `[loss]`: weights of the terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Mean absolute error.
    pub l1: f64,
    /// Mean squared error.
    pub l2: f64,
    /// Quantizer loss.
    pub quantizer: f64,
    /// Whether the quantizer loss is divided by the variance of the latent.
    pub quantizer_relative: bool,
    /// Perceptual distance.
    pub perceptual: f64,
    /// What it stands on.
    pub perceptual_network: PerceptualKind,
    /// Its weights: files the user has. LPIPS takes two (VGG16 and its linear layers) or one that holds both.
    pub perceptual_weights: Vec<PathBuf>,
    /// Adversarial loss, before the adaptive weight.
    pub gan: f64,
    /// Ceiling of the adaptive weight (1e4 as published).
    pub gan_adaptive_max: f64,
}

/// `[discriminator]`: PatchGAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Strided layers after the first.
    pub layers: usize,
    /// Channels of the first layer.
    pub channels: usize,
    /// Step at which it starts to learn.
    pub start: u64,
    /// Step at which the generator starts to hear it.
    pub generator_start: u64,
    /// Steps over which its weight grows from nothing.
    pub ramp: u64,
    /// Its learning rate as a share of the generator's.
    pub lr_factor: f64,
}

/// `[optimizer]`: Adam, and a learning rate that is a function of the step alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The highest learning rate.
    pub lr: f64,
    /// The last.
    pub min_lr: f64,
    /// Steps of linear growth.
    pub warmup: u64,
    /// Step until which it stays at `lr`; then it falls.
    pub hold: u64,
    /// How it falls.
    #[serde(default)]
    pub decay: Decay,
    /// Decays of the moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled; 0 is plain Adam.
    pub weight_decay: f64,
    /// Greatest norm of the whole gradient; 0 clips nothing.
    pub clip: f64,
}

/// `[checkpoint]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps from one to the next.
    pub every: u64,
    /// How many are kept.
    pub keep: usize,
    /// Whether the exported network is rounded to f16, which halves it, and with it a codebook that a projector made.
    pub export_half: bool,
}

/// `[watch]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// Steps from one line of metrics to the next.
    pub log_every: u64,
    /// Steps from one grid of reconstructions to the next; 0 draws none.
    pub grid_every: u64,
    /// Pictures in a grid.
    pub grid_pictures: usize,
    /// Tokens of seeded crops over which utilisation is counted at the end, per entry (the paper's definition needs 100).
    pub usage_tokens_per_code: u64,
}
