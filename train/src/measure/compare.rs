//! Pictures and what became of them, compared.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::Serialize;
use vqlc_model::image::Rgb;

use super::{Cloud, FeatureNetwork, Judges, Keep, sizes::Sizes};
use crate::{
    Error, Result,
    losses::perceptual::perceptual_distances,
    metrics::{Luma, Pair, SsimBorder, frechet_distance},
};

/// How near one picture came. What has no weights is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PictureScores {
    /// Over R, G and B, dB; infinite for equal pictures.
    pub psnr: f64,
    /// Of the BT.601 luma, not rounded, dB.
    pub psnr_luma: f64,
    /// Gaussian window of 11 x 11 and sigma 1.5, population covariance, mean over the positions within the picture and the channels.
    pub ssim: f64,
    /// Distance on EfficientNet-Lite0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<f64>,
    /// LPIPS on VGG16 (Zhang et al. 2018).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lpips_vgg: Option<f64>,
    /// LPIPS on AlexNet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lpips_alex: Option<f64>,
}

/// Means of [`PictureScores`] over pictures, and distances between the two sets of pictures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Pairs compared.
    pub pictures: u64,
    /// The means.
    #[serde(flatten)]
    pub mean: PictureScores,
    /// Fréchet distance on EfficientNet-Lite0's features (FD-EffLite0; not an FID), of two square pictures or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd_efflite0: Option<f64>,
    /// Fréchet distance on the features of FID's Inception between originals and reconstructions, of two pictures or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rfid: Option<f64>,
}

impl Comparison {
    /// Name and value of each figure there is.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mean = &self.mean;
        let optional = [
            ("perceptual", mean.perceptual, 4),
            ("LPIPS-VGG16", mean.lpips_vgg, 4),
            ("LPIPS-AlexNet", mean.lpips_alex, 4),
            ("FD-EffLite0", self.fd_efflite0, 1),
            ("rFID", self.rfid, 3),
        ];
        let mut rows = vec![
            ("PSNR", format!("{:.2} dB", mean.psnr)),
            ("PSNR luma", format!("{:.2} dB", mean.psnr_luma)),
            ("SSIM", format!("{:.4}", mean.ssim)),
        ];
        let there = optional.into_iter();
        rows.extend(
            there.filter_map(|(name, value, digits)| Some((name, format!("{:.digits$}", value?)))),
        );
        rows
    }
}

/// Collects comparisons. How the pictures are divided into calls changes nothing on the CPU.
pub struct Comparer<'a> {
    judges: &'a Judges,
    pictures: u64,
    sums: PictureScores,
    /// What the networks that distances are taken on saw, of the originals and of what became of them.
    clouds: [Vec<Cloud>; 2],
    square: bool,
    sizes: Sizes,
}

impl<'a> Comparer<'a> {
    /// Nothing compared yet.
    ///
    /// # Errors
    /// None that can be met.
    pub fn new(judges: &'a Judges) -> Result<Self> {
        let zero = |there: bool| there.then_some(0.0);
        Ok(Self {
            judges,
            pictures: 0,
            sums: PictureScores {
                psnr: 0.0,
                psnr_luma: 0.0,
                ssim: 0.0,
                perceptual: zero(judges.efficientnet.is_some()),
                lpips_vgg: zero(judges.lpips_vgg.is_some()),
                lpips_alex: zero(judges.lpips_alex.is_some()),
            },
            clouds: [
                Cloud::all(judges, Keep::default())?,
                Cloud::all(judges, Keep::default())?,
            ],
            square: true,
            sizes: Sizes::default(),
        })
    }

    /// Compares each of `originals` with the picture of the same place in `made`, and counts them in.
    ///
    /// # Errors
    /// [`Error::Argument`] for pictures of different sizes, or below 11 pixels a side (with LPIPS: too small for its network); a tensor
    /// operation's.
    pub fn add(&mut self, originals: &[Rgb], made: &[Rgb]) -> Result<Vec<PictureScores>> {
        if originals.len() != made.len() {
            return Err(Error::Argument {
                what: "pictures to compare",
                expected: format!("{} of them", originals.len()),
                found: made.len().to_string(),
            });
        }
        let pairs = originals.par_iter().zip(made);
        let mut scores: Vec<PictureScores> =
            pairs.map(|(a, b)| plain(a, b)).collect::<Result<_>>()?;
        let mut start = 0;
        for alike in originals.chunk_by(|a, b| size(a) == size(b)) {
            let range = start..start + alike.len();
            start = range.end;
            self.judge(alike, &made[range.clone()], &mut scores[range])?;
        }
        for one in &scores {
            self.count(one);
        }
        self.sizes.add(originals);
        Ok(scores)
    }

    /// What the networks say about pictures of one size.
    fn judge(
        &mut self,
        originals: &[Rgb],
        made: &[Rgb],
        scores: &mut [PictureScores],
    ) -> Result<()> {
        let judges = self.judges;
        self.features(originals, made)?;
        let networks = [judges.lpips_vgg.is_some(), judges.lpips_alex.is_some()];
        if judges.efficientnet.is_none() && networks == [false; 2] {
            return Ok(());
        }
        let device = &judges.device;
        let (a, b) = (tensor(made, device)?, tensor(originals, device)?);
        type Place = fn(&mut PictureScores) -> &mut Option<f64>;
        let mut put = |distances: Tensor, into: Place| -> Result<()> {
            for (score, distance) in scores.iter_mut().zip(distances.to_vec1::<f32>()?) {
                *into(score) = Some(distance.into());
            }
            Ok(())
        };
        if let Some(network) = &judges.efficientnet {
            let distances = perceptual_distances(network, &a, &b)?;
            put(distances, |score| &mut score.perceptual)?;
        }
        if let Some(network) = &judges.lpips_vgg {
            put(network.distances(&a, &b)?, |score| &mut score.lpips_vgg)?;
        }
        if let Some(network) = &judges.lpips_alex {
            put(network.distances(&a, &b)?, |score| &mut score.lpips_alex)?;
        }
        Ok(())
    }

    fn features(&mut self, originals: &[Rgb], made: &[Rgb]) -> Result<()> {
        self.square &= originals.iter().all(|rgb| rgb.width == rgb.height);
        for (clouds, pictures) in self.clouds.iter_mut().zip([originals, made]) {
            for cloud in clouds {
                // One picture of another shape, and there is no distance of the whole set.
                if self.square || !cloud.network().squares_only() {
                    cloud.add(self.judges, pictures)?;
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, one: &PictureScores) {
        let sums = &mut self.sums;
        let added = |sum: Option<f64>, value: Option<f64>| Some(sum? + value?);
        sums.psnr += one.psnr;
        sums.psnr_luma += one.psnr_luma;
        sums.ssim += one.ssim;
        sums.perceptual = added(sums.perceptual, one.perceptual);
        sums.lpips_vgg = added(sums.lpips_vgg, one.lpips_vgg);
        sums.lpips_alex = added(sums.lpips_alex, one.lpips_alex);
        self.pictures += 1;
    }

    /// Width and height of the smallest and the largest picture (by area), if there was one.
    pub fn sizes(&self) -> Option<[(u32, u32); 2]> {
        self.sizes.ends()
    }

    /// The figures over all pictures; not a number where there were none.
    ///
    /// # Errors
    /// Features that a Fréchet distance cannot be taken of.
    pub fn finish(&self) -> Result<Comparison> {
        let (count, sums) = (self.pictures as f64, &self.sums);
        let mean = |sum: f64| sum / count;
        let distance = |network: FeatureNetwork| {
            let [a, b] = self
                .clouds
                .each_ref()
                .map(|clouds| clouds.iter().find(|cloud| cloud.network() == network));
            let complete = self.pictures > 1 && (self.square || !network.squares_only());
            match (a, b) {
                (Some(a), Some(b)) if complete => {
                    frechet_distance(&a.moments, &b.moments).map(Some)
                }
                _ => Ok(None),
            }
        };
        Ok(Comparison {
            pictures: self.pictures,
            mean: PictureScores {
                psnr: mean(sums.psnr),
                psnr_luma: mean(sums.psnr_luma),
                ssim: mean(sums.ssim),
                perceptual: sums.perceptual.map(mean),
                lpips_vgg: sums.lpips_vgg.map(mean),
                lpips_alex: sums.lpips_alex.map(mean),
            },
            fd_efflite0: distance(FeatureNetwork::EfficientNet)?,
            rfid: distance(FeatureNetwork::Inception)?,
        })
    }
}

/// What needs no network.
fn plain(original: &Rgb, made: &Rgb) -> Result<PictureScores> {
    let (width, height) = size(original);
    if size(made) != (width, height) {
        return Err(Error::Argument {
            what: "pictures to compare",
            expected: format!("{width} x {height} pixels"),
            found: format!("{} x {}", made.width, made.height),
        });
    }
    let pair = Pair::new(&original.data, &made.data, width as usize, height as usize)?;
    Ok(PictureScores {
        psnr: pair.psnr(),
        psnr_luma: pair.psnr_luma(Luma::default()),
        ssim: pair.ssim(SsimBorder::default())?,
        perceptual: None,
        lpips_vgg: None,
        lpips_alex: None,
    })
}

fn size(rgb: &Rgb) -> (u32, u32) {
    (rgb.width, rgb.height)
}

/// Pictures of one size as `[n, 3, height, width]` in [-1, 1].
fn tensor(pictures: &[Rgb], device: &Device) -> Result<Tensor> {
    let (width, height) = pictures.first().map_or((0, 0), size);
    let bytes: Vec<u8> = pictures
        .iter()
        .flat_map(|rgb| rgb.data.iter().copied())
        .collect();
    let shape = (pictures.len(), height as usize, width as usize, 3);
    let tensor = Tensor::from_vec(bytes, shape, device)?
        .permute((0, 3, 1, 2))?
        .to_dtype(DType::F32)?;
    Ok(tensor.affine(1.0 / 127.5, -1.0)?.contiguous()?)
}
