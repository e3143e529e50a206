//! What a tokenizer is worth: its pictures against the originals.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Module as _, Tensor};
use serde::Serialize;
use vqlc_model::{
    Tokenizer,
    image::{Rgb, to_rgb8},
};

use super::TokenizerTrainer;
use crate::{
    Result,
    backbone::{efficientnet_lite0, fd_features},
    config::PerceptualKind,
    data::{Loader, LoaderOptions, Order, Pictures, Source},
    losses::perceptual::perceptual_distances,
    metrics::{Moments, Pair, Scores, Usage, frechet_distance},
};

/// Numbers of [`fd_features`].
const FD_FEATURES: usize = 320;
/// Pictures that are looked at together.
const BATCH: usize = 8;

/// What can be measured: pictures to ids and back.
pub trait Codec {
    /// Entries of the codebook.
    fn codes(&self) -> usize;
    /// Where it runs.
    fn device(&self) -> &Device;
    /// Ids `[count, side/f, side/f]` of `pixels` `[count, 3, side, side]` in [-1, 1].
    ///
    /// # Errors
    /// A tensor operation's.
    fn ids(&self, pixels: &[f32], count: usize, side: usize) -> Result<Vec<u32>>;
    /// The ids, and the pictures they decode to, shaped as `pixels`.
    ///
    /// # Errors
    /// A tensor operation's.
    fn reconstruct(
        &self,
        pixels: &[f32],
        count: usize,
        side: usize,
    ) -> Result<(Vec<u32>, Vec<f32>)>;
}

impl Codec for Tokenizer {
    fn codes(&self) -> usize {
        self.codebook_size() as usize
    }

    fn device(&self) -> &Device {
        Tokenizer::device(self)
    }

    fn ids(&self, pixels: &[f32], count: usize, side: usize) -> Result<Vec<u32>> {
        Ok(self.encode(pixels, count, side, side)?)
    }

    fn reconstruct(
        &self,
        pixels: &[f32],
        count: usize,
        side: usize,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let ids = self.ids(pixels, count, side)?;
        let grid = side / self.factor();
        let made = self.decode(&ids, count, grid, grid)?;
        Ok((ids, made))
    }
}

/// The run itself: for the fc quantizer, which no model file holds.
impl Codec for TokenizerTrainer {
    fn codes(&self) -> usize {
        self.config.model.n_codes
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn ids(&self, pixels: &[f32], count: usize, side: usize) -> Result<Vec<u32>> {
        let z = self.latent(pixels, count, side)?;
        Ok(self.quantizer.forward(&z, false)?.ids.to_vec1()?)
    }

    fn reconstruct(
        &self,
        pixels: &[f32],
        count: usize,
        side: usize,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let z = self.latent(pixels, count, side)?;
        let quantized = self.quantizer.forward(&z, false)?;
        Ok((quantized.ids.to_vec1()?, self.pixels(&quantized.z_q)?))
    }
}

impl TokenizerTrainer {
    /// The latents of `pixels` `[count, 3, side, side]`, without a graph.
    pub(super) fn latent(&self, pixels: &[f32], count: usize, side: usize) -> Result<Tensor> {
        let x = Tensor::from_slice(pixels, (count, 3, side, side), &self.device)?;
        Ok(self.encoder.forward(&x)?.detach())
    }

    /// What the decoder makes of latents.
    pub(super) fn pixels(&self, z: &Tensor) -> Result<Vec<f32>> {
        let made = self.decoder.forward(&z.detach())?;
        Ok(made.detach().flatten_all()?.to_vec1()?)
    }
}

/// A tokenizer measured on a folder: centre crops of one size, both sides 8 bits a channel, means over pictures.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Pictures measured.
    pub pictures: u64,
    /// Pictures that could not be read.
    pub skipped: u64,
    /// Their names, and why.
    pub left_out: Vec<String>,
    /// Side of the crops, pixels.
    pub size: usize,
    /// Over R, G and B, dB.
    pub psnr: f64,
    /// Gaussian window of sigma 1.5, population covariance.
    pub ssim: f64,
    /// Perceptual distance on EfficientNet-Lite0, where its weights were given.
    pub perceptual: Option<f64>,
    /// Fréchet distance on EfficientNet-Lite0's features (FD-EffLite0; not an FID), likewise.
    pub fd_efflite0: Option<f64>,
    /// Tokens of all pictures.
    pub tokens: u64,
    /// Different ids among them.
    pub distinct_ids: u64,
}

impl Evaluation {
    /// The figures as lines of text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "measured on   {} pictures, centre crops of {} x {}\nPSNR          {:.2} dB\nSSIM          {:.4}\n",
            self.pictures, self.size, self.size, self.psnr, self.ssim
        );
        if let Some(perceptual) = self.perceptual {
            text += &format!("perceptual    {perceptual:.4} (EfficientNet-Lite0)\n");
        }
        if let Some(fd) = self.fd_efflite0 {
            text += &format!("FD-EffLite0   {fd:.1}\n");
        }
        text += &format!(
            "ids           {} different among {} tokens\n",
            self.distinct_ids, self.tokens
        );
        for name in &self.left_out {
            text += &format!("left out      {name}\n");
        }
        text
    }
}

/// Measures `codec` on the pictures of `folder`, with the two EfficientNet figures where `weights` names that network's file.
///
/// # Errors
/// A folder without readable pictures; a tensor operation's.
pub fn evaluate(
    codec: &dyn Codec,
    folder: &Path,
    size: usize,
    threads: usize,
    weights: Option<&Path>,
) -> Result<Evaluation> {
    // The judge is always f32, whatever the network was trained in.
    let network = weights
        .map(|path| efficientnet_lite0(path, codec.device(), DType::F32))
        .transpose()?;
    let source = Source::new(Pictures::scan(folder, true)?, 0);
    let (mut scores, mut perceptual) = (Scores::default(), 0.0);
    let mut usage = Usage::new(codec.codes());
    let mut moments = [Moments::new(FD_FEATURES)?, Moments::new(FD_FEATURES)?];
    for batch in Loader::start(&source, plain(size, threads), 0)? {
        let batch = batch?;
        let (ids, made) = codec.reconstruct(&batch.pixels, batch.pictures.len(), size)?;
        usage.add(&ids)?;
        let originals = eight_bits(&batch.pixels, size)?;
        let made = eight_bits(&made, size)?;
        for (a, b) in originals.iter().zip(&made) {
            scores.add(&Pair::new(&a.data, &b.data, size, size)?)?;
        }
        if let Some(network) = &network {
            let device = codec.device();
            let distances = perceptual_distances(
                network,
                &tensor(&made, size, device)?,
                &tensor(&originals, size, device)?,
            )?;
            let distances = distances.to_vec1::<f32>()?;
            perceptual += distances.iter().map(|&d| f64::from(d)).sum::<f64>();
            for (moments, pictures) in moments.iter_mut().zip([&originals, &made]) {
                let features = fd_features(network, pictures, device)?.to_dtype(DType::F64)?;
                moments.add(&features.flatten_all()?.to_vec1()?)?;
            }
        }
    }
    let left_out: Vec<String> = (source.skipped().iter()).map(ToString::to_string).collect();
    Ok(Evaluation {
        pictures: scores.pictures(),
        skipped: left_out.len() as u64,
        left_out,
        size,
        psnr: scores.psnr(),
        ssim: scores.ssim(),
        perceptual: network
            .as_ref()
            .map(|_| perceptual / scores.pictures() as f64),
        fd_efflite0: network
            .as_ref()
            .map(|_| frechet_distance(&moments[0], &moments[1]))
            .transpose()?,
        tokens: usage.tokens(),
        distinct_ids: usage.used() as u64,
    })
}

/// Pictures `[n, 3, side, side]` in [-1, 1] as they would be written.
fn eight_bits(pixels: &[f32], side: usize) -> Result<Vec<Rgb>> {
    pixels
        .chunks_exact(3 * side * side)
        .map(|one| Ok(to_rgb8(one, side, side, side, side)?))
        .collect()
}

/// And back: `[n, 3, side, side]` in [-1, 1].
fn tensor(pictures: &[Rgb], side: usize, device: &Device) -> Result<Tensor> {
    let bytes: Vec<u8> = pictures
        .iter()
        .flat_map(|rgb| rgb.data.iter().copied())
        .collect();
    let tensor = Tensor::from_vec(bytes, (pictures.len(), side, side, 3), device)?
        .permute((0, 3, 1, 2))?
        .to_dtype(DType::F32)?;
    Ok(tensor.affine(1.0 / 127.5, -1.0)?.contiguous()?)
}

impl TokenizerTrainer {
    /// Measures `codec` on `data.eval`; `None` where no folder is named.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn evaluate(&self, codec: &dyn Codec) -> Result<Option<Evaluation>> {
        let Some(folder) = &self.config.data.eval else {
            return Ok(None);
        };
        let loss = &self.config.loss;
        let weights = match (&self.config.data.eval_weights, loss.perceptual_network) {
            (Some(path), _) => Some(path),
            (None, PerceptualKind::Efficientnet) => loss.perceptual_weights.first(),
            _ => None,
        };
        let data = &self.config.data;
        evaluate(
            codec,
            folder,
            data.eval_size,
            data.workers,
            weights.map(PathBuf::as_path),
        )
        .map(Some)
    }
}

/// Centre crops, once.
pub(super) fn plain(size: usize, threads: usize) -> LoaderOptions {
    LoaderOptions {
        size: size as u32,
        batch: BATCH,
        order: Order::Plain,
        threads,
        ahead: 2,
    }
}
