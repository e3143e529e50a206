//! Rate and distortion: what other codecs make of the same pictures at the same sizes.

use anyhow::ensure;
use rayon::prelude::*;
use serde::Serialize;
use vqlc_format::pack::bits_for;
use vqlc_model::image::Rgb;
use vqlc_train::measure::{
    Comparer, Comparison, Evaluation, Judges, PairBatch, Pairs, PictureScores, evaluate,
};

use crate::{
    codecs::{CodecList, Coded, Tool},
    interrupt,
    report::Reporter,
};

/// Sizes that are asked of a codec for a curve, as multiples of the bytes of a picture's tokens.
pub(crate) const CURVE: [u64; 4] = [1, 2, 4, 8];

/// What a codec makes of some pictures at one rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RatePoint {
    /// Its name.
    pub(crate) codec: String,
    /// Bits of all files over pixels of all pictures.
    pub(crate) bits_per_pixel: f64,
    /// The figures.
    #[serde(flatten)]
    pub(crate) comparison: Comparison,
}

/// The programs of `codecs` that are installed, asked for their versions before there is any work; of the others it is said what they are
/// missing.
///
/// # Errors
/// None of them is; one that says no version.
pub(crate) fn installed(codecs: &CodecList, reporter: &Reporter) -> anyhow::Result<Vec<Tool>> {
    let mut tools = Vec::new();
    let mut missing = None;
    for codec in &codecs.0 {
        match codec.find() {
            Ok(tool) => {
                tool.version()?;
                tools.push(tool);
            }
            Err(err) => {
                reporter.note(&format!("note: no figures of {}: {err}", codec.name()));
                missing = Some(err);
            }
        }
    }
    match missing {
        Some(err) if tools.is_empty() => Err(err.into()),
        _ => Ok(tools),
    }
}

/// Codes pictures with other codecs, as near to multiples of their tokens' bytes as each can, and collects the figures.
pub(crate) struct Rates<'a> {
    tools: &'a [Tool],
    multiples: &'a [u64],
    /// Of each tool, of each multiple.
    figures: Vec<Vec<Figures<'a>>>,
    pixels: u64,
}

struct Figures<'a> {
    comparer: Comparer<'a>,
    bytes: u64,
}

impl<'a> Rates<'a> {
    /// Of `multiples` of the sizes, such as [`CURVE`].
    pub(crate) fn new(
        tools: &'a [Tool],
        multiples: &'a [u64],
        judges: &'a Judges,
    ) -> anyhow::Result<Self> {
        let one = || {
            let comparer = Comparer::new(judges)?;
            Ok(Figures { comparer, bytes: 0 })
        };
        let row = |_| multiples.iter().map(|_| one()).collect();
        Ok(Self {
            tools,
            multiples,
            figures: tools.iter().map(row).collect::<anyhow::Result<_>>()?,
            pixels: 0,
        })
    }

    /// Codes some pictures, whose tokens have so many bytes each. `false` where it was interrupted: then none of them is counted.
    ///
    /// # Errors
    /// A program that fails; pictures that cannot be compared.
    pub(crate) fn add(&mut self, pictures: &[Rgb], token_bytes: &[u64]) -> anyhow::Result<bool> {
        ensure!(
            pictures.len() == token_bytes.len(),
            "{} pictures with {} sizes",
            pictures.len(),
            token_bytes.len()
        );
        // Each tool with each picture, as one list: some tools take far longer than others.
        let jobs: Vec<(usize, usize)> = (0..self.tools.len())
            .flat_map(|tool| (0..pictures.len()).map(move |picture| (tool, picture)))
            .collect();
        let coded = jobs.into_par_iter().map(|(tool, picture)| {
            if interrupt::requested() {
                return Ok(Vec::new());
            }
            let sizes = self.multiples.iter();
            let sizes: Vec<u64> = sizes
                .map(|multiple| multiple.saturating_mul(token_bytes[picture]))
                .collect();
            self.tools[tool].curve(&pictures[picture], &sizes)
        });
        let coded: anyhow::Result<Vec<Vec<Coded>>> = coded.collect();
        // Ctrl-C reaches the programs too, which then fail.
        if interrupt::requested() {
            return Ok(false);
        }
        let mut coded = coded?.into_iter();
        for figures in &mut self.figures {
            let mut columns: Vec<Vec<Rgb>> = figures.iter().map(|_| Vec::new()).collect();
            for curve in coded.by_ref().take(pictures.len()) {
                for ((coded, column), figure) in
                    curve.into_iter().zip(&mut columns).zip(&mut *figures)
                {
                    figure.bytes += coded.bytes;
                    column.push(coded.picture);
                }
            }
            for (figure, column) in figures.iter_mut().zip(&columns) {
                figure.comparer.add(pictures, column)?;
            }
        }
        let pixels = pictures.iter();
        self.pixels += pixels
            .map(|rgb| u64::from(rgb.width) * u64::from(rgb.height))
            .sum::<u64>();
        Ok(true)
    }

    /// A point for each tool and multiple, in their order; none before the first picture.
    pub(crate) fn points(&self) -> anyhow::Result<Vec<RatePoint>> {
        if self.pixels == 0 {
            return Ok(Vec::new());
        }
        let mut points = Vec::new();
        for (tool, figures) in self.tools.iter().zip(&self.figures) {
            for figure in figures {
                let found = figure.comparer.finish()?;
                points.push(RatePoint {
                    codec: tool.codec().name().into(),
                    bits_per_pixel: 8.0 * figure.bytes as f64 / self.pixels as f64,
                    comparison: found,
                });
            }
        }
        Ok(points)
    }
}

/// Measures `pairs`, and the codecs of `rates` on the same pictures; `also` sees every batch. `None` where it was interrupted.
///
/// # Errors
/// As [`evaluate`] and [`Rates::add`].
pub(crate) fn measure(
    pairs: &mut dyn Pairs,
    judges: &Judges,
    rates: &mut Rates,
    reporter: &Reporter,
    also: &mut dyn FnMut(&PairBatch, &[PictureScores]) -> vqlc_train::Result<()>,
) -> anyhow::Result<Option<Evaluation>> {
    let bits = pairs.model().map_or(0, |(_, codes)| bits_for(codes));
    let bytes = |ids: &Vec<u32>| (ids.len() as u64 * u64::from(bits)).div_ceil(8);
    let mut failure = None;
    let progress = reporter.progress("measuring", pairs.total(), 0);
    let found = evaluate(pairs, judges, &mut |batch, scores| {
        also(batch, scores)?;
        let token_bytes: Vec<u64> = batch.ids.iter().map(bytes).collect();
        let whole = rates.add(&batch.originals, &token_bytes);
        progress.advance(batch.names.len() as u64, 0);
        Ok(whole.unwrap_or_else(|err| {
            failure = Some(err);
            false
        }) && !interrupt::requested())
    });
    progress.finish();
    match failure {
        Some(err) => Err(err),
        None => Ok(found?),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use vqlc_model::DeviceSpec;

    use super::*;
    use crate::codecs::tests::{plain, stand_in};

    #[test]
    fn points_are_means_over_pictures_and_bits_over_pixels() {
        let (tool, _folder) = stand_in();
        let device = DeviceSpec::Cpu.open().unwrap();
        let (tools, judges) = ([tool], Judges::none(&device));
        let mut rates = Rates::new(&tools, &CURVE, &judges).unwrap();
        assert_eq!(rates.points().unwrap(), []);
        assert!(rates.add(&[plain(16, 16, 0)], &[]).is_err());
        // At 1, 2, 4 and 8 times 130 bytes files of quality 3, 16, 42 and 94, of which pixels of that value come back.
        assert!(rates.add(&[plain(16, 16, 0)], &[130]).unwrap());
        assert!(rates.add(&[plain(16, 16, 100)], &[130]).unwrap());
        let points = rates.points().unwrap();
        assert_eq!(points.len(), 4);
        for (point, quality) in points.iter().zip([3.0, 16.0, 42.0, 94.0]) {
            assert_eq!(
                (point.codec.as_str(), point.comparison.pictures),
                ("jpeg", 2)
            );
            assert_eq!(point.bits_per_pixel, 8.0 * (100.0 + 10.0 * quality) / 256.0);
            let psnr = |off: f64| 20.0 * (255.0 / off).log10();
            let mean = (psnr(quality) + psnr(100.0 - quality)) / 2.0;
            assert!(
                (point.comparison.mean.psnr - mean).abs() < 1e-9,
                "{point:?}"
            );
            assert!(point.comparison.mean.ssim < 1.0);
        }
    }
}
