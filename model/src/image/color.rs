//! From a decoded raster to 8-bit sRGB: 8 bit, colour profile, alpha over the background, upright. In this order.

use image::{DynamicImage, RgbImage};

use super::{
    Icc, ImageError, Rgb, icc,
    raster::{Channels, Raster},
};

/// Converts a raster; see [`super::read_bytes`] for the rules.
pub(super) fn to_srgb(mut raster: Raster, background: [u8; 3]) -> Result<Rgb, ImageError> {
    let values = raster.take_8bit()?;
    let profile = raster.profile.as_deref();
    let (mut rgb, alpha, icc) = match raster.channels {
        Channels::Gray => with_gray(&values, None, profile),
        Channels::GrayAlpha => {
            let (gray, alpha) = split_alpha(&values, 2);
            with_gray(&gray, Some(alpha), profile)
        }
        Channels::Rgb => with_rgb(values, None, profile),
        Channels::RgbAlpha => {
            let (rgb, alpha) = split_alpha(&values, 4);
            with_rgb(rgb, Some(alpha), profile)
        }
        Channels::Cmyk => with_cmyk(&values, profile),
    };
    if let Some(alpha) = alpha {
        composite(&mut rgb, &alpha, background);
    }
    upright(raster, rgb, icc)
}

type Parts = (Vec<u8>, Option<Vec<u8>>, Icc);

fn with_gray(gray: &[u8], alpha: Option<Vec<u8>>, profile: Option<&[u8]>) -> Parts {
    let replicated = |gray: &[u8]| gray.iter().flat_map(|&v| [v; 3]).collect::<Vec<u8>>();
    match profile {
        None => (replicated(gray), alpha, Icc::None),
        Some(profile) if icc::is_gray(profile) => match icc::gray_table(profile) {
            Ok((table, icc)) => {
                let rgb = gray
                    .iter()
                    .flat_map(|&v| &table[usize::from(v) * 3..usize::from(v) * 3 + 3])
                    .copied()
                    .collect();
                (rgb, alpha, icc)
            }
            Err(reason) => (replicated(gray), alpha, Icc::Ignored(reason)),
        },
        // Grey pictures often carry the RGB profile of the picture they were made from.
        Some(_) => with_rgb(replicated(gray), alpha, profile),
    }
}

fn with_rgb(mut rgb: Vec<u8>, alpha: Option<Vec<u8>>, profile: Option<&[u8]>) -> Parts {
    let icc = match profile {
        None => Icc::None,
        Some(profile) => icc::convert_rgb(profile, &mut rgb),
    };
    (rgb, alpha, icc)
}

fn with_cmyk(cmyk: &[u8], profile: Option<&[u8]>) -> Parts {
    let reason = match profile.map(|profile| icc::convert_cmyk(profile, cmyk)) {
        Some(Ok(rgb)) => return (rgb, None, Icc::Converted),
        Some(Err(reason)) => Icc::Ignored(reason),
        None => Icc::None,
    };
    let rgb = cmyk
        .chunks_exact(4)
        .flat_map(|pixel| {
            let light = 255 - u32::from(pixel[3]);
            [pixel[0], pixel[1], pixel[2]].map(|ink| div_255((255 - u32::from(ink)) * light))
        })
        .collect();
    (rgb, None, reason)
}

/// Separates the last of `channels` samples of each pixel from the others.
fn split_alpha(values: &[u8], channels: usize) -> (Vec<u8>, Vec<u8>) {
    let pixels = values.len() / channels;
    let mut color = Vec::with_capacity(pixels * (channels - 1));
    let mut alpha = Vec::with_capacity(pixels);
    for pixel in values.chunks_exact(channels) {
        color.extend_from_slice(&pixel[..channels - 1]);
        alpha.push(pixel[channels - 1]);
    }
    (color, alpha)
}

/// Lays RGB pixels of the given opacity over a colour, in 8 bit.
fn composite(rgb: &mut [u8], alpha: &[u8], background: [u8; 3]) {
    for (pixel, &alpha) in rgb.chunks_exact_mut(3).zip(alpha) {
        let alpha = u32::from(alpha);
        for (value, behind) in pixel.iter_mut().zip(background) {
            *value = div_255(u32::from(*value) * alpha + u32::from(behind) * (255 - alpha));
        }
    }
}

/// `round(v / 255)` for `v` up to 255 * 255.
fn div_255(v: u32) -> u8 {
    ((v + 127) / 255) as u8
}

fn upright(raster: Raster, rgb: Vec<u8>, icc: Icc) -> Result<Rgb, ImageError> {
    let length = rgb.len() as u64;
    let picture =
        RgbImage::from_raw(raster.width, raster.height, rgb).ok_or(ImageError::Length {
            width: u64::from(raster.width),
            height: u64::from(raster.height),
            expected: u64::from(raster.width) * u64::from(raster.height) * 3,
            got: length,
        })?;
    let mut picture = DynamicImage::ImageRgb8(picture);
    picture.apply_orientation(raster.orientation);
    Ok(Rgb {
        width: picture.width(),
        height: picture.height(),
        data: picture.into_bytes(),
        icc,
    })
}
