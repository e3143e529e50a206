//! TIFF: bit maps, palettes, 8 to 32 bits, floating point, CMYK, YCbCr, planes apart or together. First page only.

use std::{borrow::Cow, io::Cursor};

use image::metadata::Orientation;
use tiff::{
    ColorType, TiffError,
    decoder::{Decoder, DecodingResult, Limits},
    tags::Tag,
};

use super::{
    ImageError, ReadOptions,
    raster::{Channels, Raster, Samples, allocation_limit, check_size, ycc_to_rgb},
};

const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u16 = 3;
const UNSPECIFIED: u16 = 0;
const ASSOCIATED_ALPHA: u16 = 1;
const ALPHA: u16 = 2;

type Tiff<'a> = Decoder<Cursor<Cow<'a, [u8]>>>;

/// Decodes the first picture of a TIFF file.
pub(super) fn decode(bytes: &[u8], options: &ReadOptions) -> Result<Raster, ImageError> {
    let mut decoder = open(Cow::Borrowed(bytes), options)?;
    let (width, height) = decoder.dimensions().map_err(failed)?;
    check_size(width, height, options)?;

    let photometric = decoder
        .find_tag_unsigned::<u16>(Tag::PhotometricInterpretation)
        .map_err(failed)?;
    let palette = if photometric == Some(PALETTE) {
        let palette = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(failed)?;
        // The decoder has no palettes: let it read the indices as if they were grey.
        let patched = with_photometric(bytes, BLACK_IS_ZERO)?;
        decoder = open(Cow::Owned(patched), options)?;
        Some(palette)
    } else {
        None
    };
    let profile = decoder.get_tag_u8_vec(Tag::IccProfile).ok();
    let orientation = decoder
        .find_tag_unsigned::<u16>(Tag::Orientation)
        .map_err(failed)?
        .and_then(|value| Orientation::from_exif(u8::try_from(value).ok()?))
        .unwrap_or(Orientation::NoTransforms);
    let extra = decoder
        .find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)
        .map_err(failed)?
        .and_then(|extra| extra.first().copied())
        // Files that say nothing at all mean alpha; files that say "unspecified" do not.
        .unwrap_or(ALPHA);
    let color = decoder.colortype().map_err(failed)?;
    let samples = read_samples(&mut decoder, color, width)?;

    let (channels, samples) = if let Some(palette) = palette {
        let ColorType::Gray(bits) = color else {
            return Err(unsupported(color));
        };
        (Channels::Rgb, look_up(samples, bits, &palette)?)
    } else {
        meaning(color, samples, extra)?
    };
    Ok(Raster {
        width,
        height,
        channels,
        samples,
        profile,
        orientation,
    })
}

fn open<'a>(bytes: Cow<'a, [u8]>, options: &ReadOptions) -> Result<Tiff<'a>, ImageError> {
    let limit = usize::try_from(allocation_limit(options)).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = limit;
    limits.intermediate_buffer_size = limit;
    Ok(Decoder::new(Cursor::new(bytes))
        .map_err(failed)?
        .with_limits(limits))
}

/// Reads all samples, pixel after pixel; those of less than 8 bits one in a byte, as they are.
fn read_samples(
    decoder: &mut Tiff<'_>,
    color: ColorType,
    width: u32,
) -> Result<Samples, ImageError> {
    let mut buffer = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut buffer).map_err(failed)?;
    if buffer.as_buffer(0).as_bytes().len() < layout.complete_len {
        return Err(ImageError::Unsupported(
            "TIFF planes beyond the memory limit".to_owned(),
        ));
    }
    let planes = layout.planes;
    Ok(match buffer {
        DecodingResult::U8(values) => Samples::U8(match color {
            ColorType::Gray(bits @ (1 | 2 | 4)) => spread_bits(&values, bits, width),
            _ => interleave(values, planes),
        }),
        DecodingResult::U16(values) => Samples::U16(interleave(values, planes)),
        DecodingResult::U32(values) => Samples::U16(interleave(
            values.into_iter().map(|v| (v >> 16) as u16).collect(),
            planes,
        )),
        DecodingResult::F16(values) => Samples::F32(interleave(
            values.into_iter().map(|v| v.to_f32()).collect(),
            planes,
        )),
        DecodingResult::F32(values) => Samples::F32(interleave(values, planes)),
        DecodingResult::F64(values) => Samples::F32(interleave(
            values.into_iter().map(|v| v as f32).collect(),
            planes,
        )),
        _ => {
            return Err(ImageError::Unsupported(
                "TIFF with signed or 64-bit integers".to_owned(),
            ));
        }
    })
}

/// Samples stored plane after plane, put pixel after pixel.
fn interleave<T: Copy>(values: Vec<T>, planes: usize) -> Vec<T> {
    if planes <= 1 {
        return values;
    }
    let pixels = values.len() / planes;
    (0..pixels * planes)
        .map(|i| values[i % planes * pixels + i / planes])
        .collect()
}

/// Rows of samples of 1, 2 or 4 bits (each row starts at a byte) to one sample in a byte.
fn spread_bits(rows: &[u8], bits: u8, width: u32) -> Vec<u8> {
    let width = width as usize;
    let per_byte = usize::from(8 / bits);
    let mask = (1_u8 << bits) - 1;
    rows.chunks_exact(width.div_ceil(per_byte))
        .flat_map(|row| {
            (0..width).map(move |x| {
                let shift = 8 - bits * (x % per_byte + 1) as u8;
                row[x / per_byte] >> shift & mask
            })
        })
        .collect()
}

/// What the samples mean, with kinds that have no channel layout of their own converted to one that has.
fn meaning(
    color: ColorType,
    samples: Samples,
    extra: u16,
) -> Result<(Channels, Samples), ImageError> {
    Ok(match (color, samples) {
        (ColorType::Gray(bits @ (1 | 2 | 4)), Samples::U8(mut values)) => {
            let white = (1_u8 << bits) - 1;
            values.iter_mut().for_each(|v| *v *= 255 / white);
            (Channels::Gray, Samples::U8(values))
        }
        (ColorType::Gray(_), samples) => (Channels::Gray, samples),
        (ColorType::RGB(_), samples) => (Channels::Rgb, samples),
        (ColorType::CMYK(_), samples) => (Channels::Cmyk, samples),
        (ColorType::YCbCr(8), Samples::U8(mut values)) => {
            for pixel in values.chunks_exact_mut(3) {
                pixel.copy_from_slice(&ycc_to_rgb([pixel[0], pixel[1], pixel[2]]));
            }
            (Channels::Rgb, Samples::U8(values))
        }
        (ColorType::RGBA(_), samples) => with_extra(samples, Channels::RgbAlpha, extra),
        (ColorType::Multiband { num_samples: 2, .. } | ColorType::GrayA(_), samples) => {
            with_extra(samples, Channels::GrayAlpha, extra)
        }
        (color, _) => return Err(unsupported(color)),
    })
}

/// The last of the samples of each pixel is alpha only if the file says so; associated alpha is divided out.
fn with_extra(samples: Samples, channels: Channels, extra: u16) -> (Channels, Samples) {
    let count = channels.count();
    if extra == UNSPECIFIED {
        let opaque = match channels {
            Channels::RgbAlpha => Channels::Rgb,
            _ => Channels::Gray,
        };
        let samples = match samples {
            Samples::U8(values) => Samples::U8(without_last(&values, count)),
            Samples::U16(values) => Samples::U16(without_last(&values, count)),
            Samples::F32(values) => Samples::F32(without_last(&values, count)),
        };
        return (opaque, samples);
    }
    if extra != ASSOCIATED_ALPHA {
        return (channels, samples);
    }
    let samples = match samples {
        Samples::U8(mut values) => {
            for pixel in values.chunks_exact_mut(count) {
                let alpha = u32::from(pixel[count - 1]);
                for v in &mut pixel[..count - 1] {
                    let scaled = (u32::from(*v) * 255 + alpha / 2).checked_div(alpha);
                    *v = scaled.unwrap_or(0).min(255) as u8;
                }
            }
            Samples::U8(values)
        }
        Samples::U16(mut values) => {
            for pixel in values.chunks_exact_mut(count) {
                let alpha = u32::from(pixel[count - 1]);
                for v in &mut pixel[..count - 1] {
                    let scaled = (u32::from(*v) * 0xFFFF).checked_div(alpha);
                    *v = scaled.unwrap_or(0).min(0xFFFF) as u16;
                }
            }
            Samples::U16(values)
        }
        Samples::F32(mut values) => {
            for pixel in values.chunks_exact_mut(count) {
                let alpha = pixel[count - 1];
                for v in &mut pixel[..count - 1] {
                    *v = if alpha > 0.0 { *v / alpha } else { 0.0 };
                }
            }
            Samples::F32(values)
        }
    };
    (channels, samples)
}

fn without_last<T: Copy>(values: &[T], count: usize) -> Vec<T> {
    values
        .chunks_exact(count)
        .flat_map(|pixel| &pixel[..count - 1])
        .copied()
        .collect()
}

/// Palette indices to RGB. A palette has all reds, then all greens, then all blues, in 16 bits; files differ in whether
/// white is 0xFF00 or 0xFFFF, so that the upper byte is what they agree on.
fn look_up(indices: Samples, bits: u8, palette: &[u16]) -> Result<Samples, ImageError> {
    let (Samples::U8(indices), Some(size)) = (indices, 1_usize.checked_shl(bits.into())) else {
        return Err(ImageError::Unsupported(format!(
            "TIFF palette with {bits}-bit indices"
        )));
    };
    if palette.len() != 3 * size {
        return Err(ImageError::Truncated("a TIFF palette"));
    }
    let color = |index: u8| {
        let index = usize::from(index) % size;
        [0, 1, 2].map(|channel| (palette[channel * size + index] >> 8) as u8)
    };
    Ok(Samples::U8(indices.into_iter().flat_map(color).collect()))
}

/// A copy of the file whose first directory names another photometric interpretation.
fn with_photometric(bytes: &[u8], value: u16) -> Result<Vec<u8>, ImageError> {
    let little = bytes.starts_with(b"II*\0");
    if !little && !bytes.starts_with(b"MM\0*") {
        return Err(ImageError::Unsupported(
            "palettes in large TIFF files".to_owned(),
        ));
    }
    let cut = || ImageError::Truncated("a TIFF directory");
    let u16_at = |at: usize| -> Option<u16> {
        let b = bytes.get(at..at.checked_add(2)?)?;
        let b = [b[0], b[1]];
        Some(if little {
            u16::from_le_bytes(b)
        } else {
            u16::from_be_bytes(b)
        })
    };
    let b = bytes.get(4..8).ok_or_else(cut)?;
    let b = [b[0], b[1], b[2], b[3]];
    let directory = if little {
        u32::from_le_bytes(b)
    } else {
        u32::from_be_bytes(b)
    } as usize;
    let entries = usize::from(u16_at(directory).ok_or_else(cut)?);
    let entry = (0..entries)
        .map(|i| directory + 2 + 12 * i)
        .find(|&at| u16_at(at) == Some(Tag::PhotometricInterpretation.to_u16()))
        .ok_or_else(cut)?;
    let mut copy = bytes.to_vec();
    let place = copy.get_mut(entry + 8..entry + 10).ok_or_else(cut)?;
    place.copy_from_slice(&if little {
        value.to_le_bytes()
    } else {
        value.to_be_bytes()
    });
    Ok(copy)
}

fn unsupported(color: ColorType) -> ImageError {
    ImageError::Unsupported(format!("TIFF with colours {color:?}"))
}

fn failed(error: TiffError) -> ImageError {
    match error {
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated("the data end before the picture does")
        }
        TiffError::UnsupportedError(error) => ImageError::Unsupported(error.to_string()),
        other => ImageError::Decode(Box::new(other)),
    }
}
