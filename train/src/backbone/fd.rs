//! Features for a Fréchet distance on EfficientNet-Lite0: FD-EffLite0, which is not FID.

use candle_core::{Device, Tensor};
use vqlc_model::image::{Rgb, SquareCrop};
use vqlc_ops::tensor::upload;

use super::{EfficientNet, spatial_mean};
use crate::{Error, Result};

/// Side of the network's input.
const SIDE: u32 = 224;
/// The last block group, 320 channels.
const STAGE: usize = 6;

/// `[b, 320]` f32 on `device`: the mean over positions of the last block group's output. Each picture (square, 8-bit: reconstructions are
/// rounded first, as if they were stored) is resized to 224 x 224 as Pillow's BICUBIC does and normalised by `(v - 127) / 128`.
///
/// # Errors
/// A picture that is not square; a tensor operation's.
pub fn fd_features(network: &EfficientNet, pictures: &[Rgb], device: &Device) -> Result<Tensor> {
    let mut values = Vec::with_capacity(pictures.len() * 3 * (SIDE * SIDE) as usize);
    for picture in pictures {
        let refused = |found: String| Error::Argument {
            what: "picture for FD-EffLite0",
            expected: "a square one".into(),
            found,
        };
        if picture.width != picture.height {
            return Err(refused(format!("{} x {}", picture.width, picture.height)));
        }
        let whole = SquareCrop {
            short_side: SIDE,
            size: SIDE,
            across: 0.0,
            down: 0.0,
            mirrored: false,
        };
        let unit = whole.cut(picture).map_err(|e| refused(e.to_string()))?;
        // From [-1, 1] back to 0..255: exact to a few units in the last place.
        values.extend(unit.into_iter().map(|v| (v * 127.5 + 0.5) / 128.0));
    }
    let side = SIDE as usize;
    let x = upload(values, (pictures.len(), 3, side, side), device)?;
    let stages = network.stages(&x, STAGE)?;
    Ok(spatial_mean(&stages[STAGE])?)
}
