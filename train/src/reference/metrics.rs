//! Image, feature and codebook metrics: `metrics.safetensors`.

use std::path::Path;

use candle_core::Device;
use vqlc_model::reference::{Comparison, ReferenceFile};

use crate::{
    Error, Result,
    metrics::{Luma, Moments, Pair, SsimBorder, Usage, frechet_distance},
};

const FILE: &str = "metrics.safetensors";

/// Computes every metric of the reference in `folder`. They are f64 on the CPU wherever training runs, so `_device` is not looked at.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_metrics(folder: &Path, _device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let mut out = Vec::new();
    pictures(&stored, &mut out)?;
    features(&stored, &mut out)?;
    codes(&stored, &mut out)?;
    Ok(out)
}

fn pictures(stored: &ReferenceFile, out: &mut Vec<Comparison>) -> Result<()> {
    let &[_, height, width, 3] = stored.shape("in.a")? else {
        return Err(unexpected("in.a"));
    };
    let (a, b) = (stored.bytes("in.a")?, stored.bytes("in.b")?);
    let length = height * width * 3;
    if length == 0 || a.len() != b.len() {
        return Err(unexpected("in.b"));
    }
    let pairs: Vec<Pair> = a
        .chunks_exact(length)
        .zip(b.chunks_exact(length))
        .map(|(a, b)| Pair::new(a, b, width, height))
        .collect::<Result<_>>()?;
    let mut compare = |key: &str, metric: &dyn Fn(&Pair) -> Result<f64>| -> Result<()> {
        let found: Vec<f64> = pairs.iter().map(metric).collect::<Result<_>>()?;
        out.push(stored.compare_doubles(key, &found)?);
        Ok(())
    };
    compare("out.psnr_rgb", &|pair| Ok(pair.psnr()))?;
    compare("out.psnr_y", &|pair| Ok(pair.psnr_luma(Luma::Exact)))?;
    compare("out.psnr_y_rounded", &|pair| {
        Ok(pair.psnr_luma(Luma::Rounded))
    })?;
    compare("out.ssim_valid", &|pair| pair.ssim(SsimBorder::Valid))?;
    compare("out.ssim_same_zero", &|pair| pair.ssim(SsimBorder::Zero))?;
    compare("out.ssim_same_reflect", &|pair| {
        pair.ssim(SsimBorder::Reflect)
    })
}

fn features(stored: &ReferenceFile, out: &mut Vec<Comparison>) -> Result<()> {
    let &[_, features] = stored.shape("in.feat_a")? else {
        return Err(unexpected("in.feat_a"));
    };
    let low = config(stored, "fid_low_n")?;
    let moments = |key: &str, rows: usize| -> Result<Moments> {
        let vectors = stored.doubles(key)?;
        let mut moments = Moments::new(features)?;
        let end = rows.saturating_mul(features).min(vectors.len());
        moments.add(&vectors[..end])?;
        Ok(moments)
    };
    let a = moments("in.feat_a", usize::MAX)?;
    out.push(stored.compare_doubles("out.mean_a", &a.mean())?);
    out.push(stored.compare_doubles("out.cov_a", &a.covariance()?)?);
    for (key, rows) in [("out.frechet", usize::MAX), ("out.frechet_lowrank", low)] {
        let found = frechet_distance(&moments("in.feat_a", rows)?, &moments("in.feat_b", rows)?)?;
        out.push(stored.compare_doubles(key, &[found])?);
    }
    Ok(())
}

fn codes(stored: &ReferenceFile, out: &mut Vec<Comparison>) -> Result<()> {
    // As many entries as the histogram has bins, which is in the file's memory already.
    let mut usage = Usage::new(stored.shape("out.histogram")?.iter().product());
    usage.add(&stored.integers("in.ids")?)?;
    let counts: Vec<f64> = usage.counts().iter().map(|&count| count as f64).collect();
    for (key, found) in [
        ("out.histogram", counts.as_slice()),
        ("out.perplexity", &[usage.perplexity()]),
        ("out.usage", &[usage.share()]),
        ("out.used", &[usage.used() as f64]),
    ] {
        out.push(stored.compare_doubles(key, found)?);
    }
    Ok(())
}

fn config(stored: &ReferenceFile, key: &str) -> Result<usize> {
    let value = stored.config().get(key).and_then(|v| v.as_u64());
    value
        .and_then(|v| usize::try_from(v).ok())
        .ok_or_else(|| unexpected(key))
}

fn unexpected(key: &str) -> Error {
    Error::malformed(
        Path::new(FILE),
        format!("{key} is missing or not what it should be"),
    )
}
