//! Metrics against the packages that published figures are made with: `judges.safetensors` and `pytorch_fid.npz`.

use std::path::Path;

use candle_core::Device;
use vqlc_model::reference::{Comparison, ReferenceFile};

use crate::{
    Error, Result,
    metrics::{
        Moments, NEIGHBOURS, Pair, SsimBorder, Statistics, frechet_distance, inception_score,
        precision_recall,
    },
};

const FILE: &str = "judges.safetensors";

/// Compares Fréchet distances (of features, and of statistics that pytorch-fid's way of saving wrote), precision and recall, Inception
/// Score, PSNR and SSIM. They are f64 on the CPU wherever training runs, so `_device` is not looked at.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_judges(folder: &Path, _device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let malformed = |why: String| Error::malformed(&folder.join(FILE), why);
    let columns = |key: &str| match stored.shape(key)? {
        &[_, columns] => Ok(columns),
        other => Err(malformed(format!("{key} of the shape {other:?}"))),
    };
    let floats = |key: &str| -> Result<Vec<f32>> {
        Ok(stored.doubles(key)?.iter().map(|&v| v as f32).collect())
    };
    let moments = |key: &str| -> Result<Moments> {
        let mut moments = Moments::new(columns(key)?)?;
        moments.add(&stored.doubles(key)?)?;
        Ok(moments)
    };
    let mut made = Vec::new();
    let mut compare = |key: &str, found: &[f64]| -> Result<()> {
        made.push(stored.compare_doubles(&format!("out.{key}"), found)?);
        Ok(())
    };

    for set in ["many", "few"] {
        let (a, b) = (format!("in.{set}_a"), format!("in.{set}_b"));
        let distance = frechet_distance(&moments(&a)?, &moments(&b)?)?;
        compare(&format!("frechet_{set}"), &[distance])?;
        let found = precision_recall(&floats(&a)?, &floats(&b)?, columns(&a)?, NEIGHBOURS)?;
        let key = format!("precision_recall_{set}");
        compare(&key, &[found.precision, found.recall])?;
    }
    let saved = Statistics::read(&folder.join("pytorch_fid.npz"))?;
    let distance = frechet_distance(&saved, &moments("in.many_b")?)?;
    compare("frechet_many", &[distance])?;

    let splits = stored.config().get("splits").and_then(|v| v.as_u64());
    let splits = splits.ok_or_else(|| malformed("no splits".into()))? as usize;
    let classes = columns("in.logits")?;
    let score = inception_score(&floats("in.logits")?, classes, splits)?;
    compare("inception_score", &[score.mean, score.deviation])?;

    let (mut psnr, mut ssim) = (Vec::new(), Vec::new());
    for k in 0..stored.shape("out.psnr")?.iter().product() {
        let (a, b) = (format!("in.picture{k}_a"), format!("in.picture{k}_b"));
        let &[height, width, 3] = stored.shape(&a)? else {
            return Err(malformed(format!("{a} is no picture")));
        };
        let (a, b) = (stored.bytes(&a)?, stored.bytes(&b)?);
        let pair = Pair::new(&a, &b, width, height)?;
        psnr.push(pair.psnr());
        ssim.push(pair.ssim(SsimBorder::default())?);
    }
    compare("psnr", &psnr)?;
    compare("ssim", &ssim)?;
    Ok(made)
}
