//! From the decoder's output to a picture file.

use std::{fmt, io::Write, str::FromStr};

use image::{
    ExtendedColorType, ImageEncoder,
    codecs::{
        jpeg::JpegEncoder,
        png::{CompressionType, FilterType, PngEncoder},
        webp::WebPEncoder,
    },
};

use super::{Icc, ImageError, Rgb};

/// Quality of JPEG output unless another is asked for.
pub const JPEG_QUALITY: u8 = 95;

/// Formats in which pictures are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutFormat {
    /// PNG, lossless.
    #[default]
    Png,
    /// JPEG without chroma subsampling.
    Jpeg {
        /// 1 (worst) to 100 (best).
        quality: u8,
    },
    /// WebP, lossless.
    Webp,
}

impl OutFormat {
    /// The usual file name extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            OutFormat::Png => "png",
            OutFormat::Jpeg { .. } => "jpg",
            OutFormat::Webp => "webp",
        }
    }
}

impl fmt::Display for OutFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OutFormat::Png => "png",
            OutFormat::Jpeg { .. } => "jpeg",
            OutFormat::Webp => "webp",
        })
    }
}

impl FromStr for OutFormat {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        match text {
            "png" => Ok(OutFormat::Png),
            "jpeg" | "jpg" => Ok(OutFormat::Jpeg {
                quality: JPEG_QUALITY,
            }),
            "webp" => Ok(OutFormat::Webp),
            other => Err(ImageError::Settings(format!(
                "formats are png, jpeg or webp, got {other:?}"
            ))),
        }
    }
}

/// Turns the decoder's `pixels` ([3, height, width] f32, nominally in [-1,1]) into 8-bit RGB and keeps the top left
/// `crop_height` x `crop_width`: `round((x + 1) * 127.5)`, clamped to 0..=255 (infinities too).
///
/// # Errors
/// [`ImageError::NotANumber`] for a NaN within the crop, [`ImageError::Length`] if `pixels` has another length,
/// [`ImageError::Settings`] if the crop is empty or larger than the picture.
pub fn to_rgb8(
    pixels: &[f32],
    height: usize,
    width: usize,
    crop_height: usize,
    crop_width: usize,
) -> Result<Rgb, ImageError> {
    let plane = height.saturating_mul(width);
    let expected = plane.saturating_mul(3);
    if pixels.len() != expected {
        return Err(ImageError::Length {
            width: width as u64,
            height: height as u64,
            expected: expected as u64,
            got: pixels.len() as u64,
        });
    }
    if crop_height == 0 || crop_width == 0 || crop_height > height || crop_width > width {
        return Err(ImageError::Settings(format!(
            "cannot crop {width} x {height} pixels to {crop_width} x {crop_height}"
        )));
    }
    let side = |side: usize| {
        u32::try_from(side).map_err(|_| ImageError::Settings(format!("a side of {side} pixels")))
    };
    let (rgb_width, rgb_height) = (side(crop_width)?, side(crop_height)?);
    let mut data = vec![0; crop_height * crop_width * 3];
    for (y, row) in data.chunks_exact_mut(crop_width * 3).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            for (c, out) in pixel.iter_mut().enumerate() {
                let index = c * plane + y * width + x;
                let value = pixels[index];
                if value.is_nan() {
                    return Err(ImageError::NotANumber { index });
                }
                // The cast saturates.
                *out = ((value + 1.0) * 127.5).round() as u8;
            }
        }
    }
    Ok(Rgb {
        width: rgb_width,
        height: rgb_height,
        data,
        icc: Icc::None,
    })
}

/// Writes `rgb` as a picture file; the pixels are sRGB and no profile is embedded.
///
/// # Errors
/// [`ImageError::Io`] when `out` fails, [`ImageError::Encode`] when the format cannot hold the picture (JPEG ends at
/// 65,535 pixels a side, WebP at 16,384), [`ImageError::Length`] if `rgb` contradicts itself.
pub fn write(rgb: &Rgb, format: OutFormat, mut out: impl Write) -> Result<(), ImageError> {
    rgb.check()?;
    // To memory first: not every encoder passes an output's error on as it was, and people need to tell a full disk
    // from a picture that cannot be encoded.
    let bytes = encode(rgb, format)?;
    out.write_all(&bytes)?;
    out.flush()?;
    Ok(())
}

fn encode(rgb: &Rgb, format: OutFormat) -> Result<Vec<u8>, ImageError> {
    let (data, width, height) = (&rgb.data, rgb.width, rgb.height);
    let color = ExtendedColorType::Rgb8;
    let mut bytes = Vec::new();
    match format {
        OutFormat::Png => {
            PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
                .write_image(data, width, height, color)
        }
        OutFormat::Jpeg { quality } => {
            if !(1..=100).contains(&quality) {
                return Err(ImageError::Settings(format!(
                    "JPEG quality is 1 to 100, got {quality}"
                )));
            }
            JpegEncoder::new_with_quality(&mut bytes, quality)
                .write_image(data, width, height, color)
        }
        OutFormat::Webp => {
            WebPEncoder::new_lossless(&mut bytes).write_image(data, width, height, color)
        }
    }
    .map_err(|error| ImageError::Encode(Box::new(error)))?;
    Ok(bytes)
}
