//! A decoded picture as its file stores it: the meeting point of all decoders.

use image::metadata::Orientation;

use super::{ImageError, ReadOptions};

/// What the samples of a pixel mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    Gray,
    GrayAlpha,
    Rgb,
    RgbAlpha,
    /// Amounts of ink, 0 = none.
    Cmyk,
}

impl Channels {
    pub(super) fn count(self) -> usize {
        match self {
            Channels::Gray => 1,
            Channels::GrayAlpha => 2,
            Channels::Rgb => 3,
            Channels::RgbAlpha | Channels::Cmyk => 4,
        }
    }
}

/// Sample values, pixel after pixel.
#[derive(Debug)]
pub(super) enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    /// 0.0 to 1.0.
    F32(Vec<f32>),
}

/// A decoded picture, not yet turned upright nor converted to sRGB.
#[derive(Debug)]
pub(super) struct Raster {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) channels: Channels,
    pub(super) samples: Samples,
    pub(super) profile: Option<Vec<u8>>,
    pub(super) orientation: Orientation,
}

impl Raster {
    /// The samples in 8 bit, checked to be as many as the size says.
    pub(super) fn take_8bit(&mut self) -> Result<Vec<u8>, ImageError> {
        let bytes = match std::mem::replace(&mut self.samples, Samples::U8(Vec::new())) {
            Samples::U8(values) => values,
            // round(v / 257): white is 255 * 257.
            Samples::U16(values) => values
                .into_iter()
                .map(|v| ((u32::from(v) + 128) / 257) as u8)
                .collect(),
            Samples::F32(values) => {
                let above = values.iter().filter(|&&v| v > 1.0).count();
                if above > values.len() / 2 {
                    // Clipping highlights is right, turning a 0..255 picture all white is not.
                    return Err(ImageError::Unsupported(
                        "floating point samples that are mostly above 1.0".to_owned(),
                    ));
                }
                // The cast saturates, and makes NaN 0.
                values
                    .into_iter()
                    .map(|v| (v * 255.0).round() as u8)
                    .collect()
            }
        };
        let pixels = u64::from(self.width) * u64::from(self.height);
        let expected = pixels.saturating_mul(self.channels.count() as u64);
        if bytes.len() as u64 != expected {
            return Err(ImageError::Length {
                width: u64::from(self.width),
                height: u64::from(self.height),
                expected,
                got: bytes.len() as u64,
            });
        }
        Ok(bytes)
    }
}

/// Refuses a header that announces no pixels or too many, before anything is allocated for them.
pub(super) fn check_size(width: u32, height: u32, options: &ReadOptions) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::Empty { width, height });
    }
    if u64::from(width) * u64::from(height) > options.max_pixels {
        return Err(ImageError::TooManyPixels {
            width,
            height,
            max_pixels: options.max_pixels,
        });
    }
    Ok(())
}

/// Bytes that a decoder may allocate: the largest pixel has 16 (four floats), plus room for tables and profiles.
pub(super) fn allocation_limit(options: &ReadOptions) -> u64 {
    options
        .max_pixels
        .saturating_mul(16)
        .saturating_add(1 << 26)
}

/// Luminance and chrominance (JFIF, full range) to RGB.
pub(super) fn ycc_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y) << 16, i32::from(cb) - 128, i32::from(cr) - 128);
    let level = |v: i32| ((v + (1 << 15)) >> 16).clamp(0, 255) as u8;
    [
        level(y + 91_881 * cr),
        level(y - 22_554 * cb - 46_802 * cr),
        level(y + 116_130 * cb),
    ]
}
