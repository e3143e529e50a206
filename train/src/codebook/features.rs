//! Patch features of pictures, kept as f16 within a budget.

use std::{ops::Range, path::Path, sync::mpsc::sync_channel};

use candle_core::{DType, Device, Tensor};
use half::f16;
use rayon::prelude::*;
use vqlc_model::{
    image::{ReadOptions, SquareCrop, read},
    rng::Rng,
};
use vqlc_ops::tensor::upload;

use super::Watch;
use crate::{Error, Result, backbone::Backbone, data::Pictures};

/// Pictures that are decoded together.
const CHUNK: usize = 16;
/// Views that go through the network together.
const BATCH: usize = 16;
/// The largest scale of a random view, over the one at which its short side fits.
const MAX_SCALE: f64 = 1.5;

/// Which features are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sampling {
    pub(super) seed: u64,
    pub(super) views: u32,
    pub(super) pool: usize,
    /// Bytes they may take.
    pub(super) budget: u64,
}

/// Features as f16, `[count, dim]`, in the order of the pictures.
#[derive(Clone, Debug, Default)]
pub(super) struct Features {
    values: Vec<f16>,
    dim: usize,
    /// How many came of each picture.
    of_picture: Vec<usize>,
    /// Pictures that could not be read.
    unreadable: u64,
}

impl Features {
    pub(super) fn new(values: Vec<f16>, dim: usize, of_picture: Vec<usize>) -> Self {
        Self {
            values,
            dim,
            of_picture,
            unreadable: 0,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.values.len() / self.dim
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn of_picture(&self) -> &[usize] {
        &self.of_picture
    }

    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    pub(super) fn row(&self, index: usize) -> &[f16] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }

    /// Rows as f32.
    pub(super) fn rows(&self, range: Range<usize>) -> Vec<f32> {
        let values = &self.values[range.start * self.dim..range.end * self.dim];
        values.iter().map(|v| v.to_f32()).collect()
    }
}

/// How many of all features of `views` views with `per_view` features each fit into the budget.
pub(super) fn kept(views: u64, per_view: u64, dim: usize, budget: u64) -> u64 {
    // 2 bytes a number; ids of features are u32.
    let room = (budget / (2 * dim as u64)).min(u64::from(u32::MAX - 1));
    views.saturating_mul(per_view).min(room)
}

/// Reads every picture and takes features of its views: view 0 is the centre at the scale where the short side fits, the others are drawn at
/// up to 1.5 times that scale, anywhere, half of them mirrored, from the seed, the picture's name and the view's number. Where not all
/// features fit into the budget, every view gives its share, drawn from the seed.
///
/// Returns `None` when told to stop.
///
/// # Errors
/// The backbone's. A picture that cannot be read is told of and gives no features.
pub(super) fn extract(
    pictures: &Pictures,
    backbone: &Backbone,
    sampling: Sampling,
    watch: &dyn Watch,
) -> Result<Option<Features>> {
    let card = backbone.kind().card();
    let per_view = (card.grid / sampling.pool).pow(2);
    let all_views = pictures.count() as u64 * u64::from(sampling.views);
    let room = kept(all_views, per_view as u64, card.dim, sampling.budget);
    let mut out = Features::new(Vec::new(), card.dim, Vec::new());
    let side = card.input as usize;
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel::<Vec<Result<Vec<f32>, String>>>(2);
        scope.spawn(move || {
            let indices: Vec<usize> = (0..pictures.count()).collect();
            for chunk in indices.chunks(CHUNK) {
                let cut = |&index: &usize| views(pictures, index, card.input, sampling);
                // The other end is gone when it was told to stop.
                if send.send(chunk.par_iter().map(cut).collect()).is_err() {
                    return;
                }
            }
        });
        let mut picture = 0;
        for chunk in receive {
            if watch.stop() {
                return Ok(None);
            }
            let mut numbers = Vec::new();
            let mut pixels = Vec::new();
            for decoded in chunk {
                out.of_picture.push(0);
                match decoded {
                    Ok(values) => {
                        let first = picture as u64 * u64::from(sampling.views);
                        numbers.extend(first..first + u64::from(sampling.views));
                        pixels.extend(values);
                    }
                    Err(why) => {
                        out.unreadable += 1;
                        watch.unreadable(pictures.name(picture), &why);
                    }
                }
                picture += 1;
            }
            let one = 3 * side * side;
            for (numbers, pixels) in numbers.chunks(BATCH).zip(pixels.chunks(BATCH * one)) {
                let x = upload(pixels, (numbers.len(), 3, side, side), backbone.device())?;
                let rows = pooled(&backbone.features(&x)?, sampling.pool)?;
                for (&number, rows) in numbers.iter().zip(rows.chunks(per_view * card.dim)) {
                    // Shares whose sum over all views is what fits, none more than one off.
                    let share = |views: u64| {
                        (u128::from(room) * u128::from(views) / u128::from(all_views)) as usize
                    };
                    let quota = share(number + 1) - share(number);
                    let source = (number / u64::from(sampling.views)) as usize;
                    out.of_picture[source] += quota;
                    for place in places(per_view, quota, sampling.seed, number) {
                        let row = &rows[place * card.dim..(place + 1) * card.dim];
                        push(&mut out.values, row)?;
                    }
                }
            }
            watch.pictures(picture as u64, pictures.count() as u64);
        }
        Ok(Some(out))
    })
}

fn push(values: &mut Vec<f16>, row: &[f32]) -> Result<()> {
    for &value in row {
        let half = f16::from_f32(value);
        if !half.is_finite() {
            return Err(Error::Argument {
                what: "a feature",
                expected: "a number that f16 can hold".into(),
                found: value.to_string(),
            });
        }
        values.push(half);
    }
    Ok(())
}

/// The views of a picture, one after another, each `[3, size, size]` in [-1, 1]; or why there are none.
fn views(
    pictures: &Pictures,
    index: usize,
    size: u32,
    sampling: Sampling,
) -> Result<Vec<f32>, String> {
    let name: &Path = pictures.name(index);
    let rgb =
        read(&pictures.folder().join(name), &ReadOptions::default()).map_err(|e| e.to_string())?;
    let bytes = name.as_os_str().as_encoded_bytes().iter();
    let named = bytes.fold(sampling.seed, |hash, &byte| {
        Rng::new(hash ^ u64::from(byte)).next_u64()
    });
    let mut out = Vec::new();
    for view in 0..sampling.views {
        let mut crop = SquareCrop {
            short_side: size,
            size,
            across: 0.5,
            down: 0.5,
            mirrored: false,
        };
        if view > 0 {
            let mut rng = Rng::new(Rng::new(named ^ u64::from(view)).next_u64());
            let scale = 1.0 + (MAX_SCALE - 1.0) * rng.uniform();
            crop = SquareCrop {
                short_side: (f64::from(size) * scale) as u32,
                size,
                across: rng.uniform(),
                down: rng.uniform(),
                mirrored: rng.uniform() < 0.5,
            };
        }
        out.extend(crop.cut(&rgb).map_err(|e| e.to_string())?);
    }
    Ok(out)
}

/// `[b, dim, g, g]` averaged over squares of `pool` patches, as rows of `dim` numbers.
fn pooled(features: &Tensor, pool: usize) -> Result<Vec<f32>> {
    let (batch, dim, rows, columns) = features.dims4()?;
    let mut features = features.to_dtype(DType::F32)?;
    if pool > 1 {
        features = features
            .reshape((batch, dim, rows / pool, pool, columns / pool, pool))?
            .mean(5)?
            .mean(3)?;
    }
    let rows = features.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
    Ok(rows.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}

/// `quota` of `all` places in ascending order, drawn for view `number`.
fn places(all: usize, quota: usize, seed: u64, number: u64) -> Vec<usize> {
    let mut places: Vec<usize> = (0..all).collect();
    if quota >= all {
        return places;
    }
    let mut rng = Rng::new(Rng::new(seed).next_u64() ^ number);
    for i in 0..quota {
        let other = i + (rng.next_u64() % (all - i) as u64) as usize;
        places.swap(i, other);
    }
    places.truncate(quota);
    places.sort_unstable();
    places
}
