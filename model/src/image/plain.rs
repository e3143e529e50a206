//! PNG, GIF, WebP, BMP and PNM, which the `image` crate decodes to plain rasters.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits, metadata::Orientation};

use super::{
    ImageError, ReadOptions,
    raster::{Channels, Raster, Samples, allocation_limit, check_size},
};

/// Decodes one of the formats above; of an animation, the first frame.
pub(super) fn decode(
    bytes: &[u8],
    format: ImageFormat,
    options: &ReadOptions,
) -> Result<Raster, ImageError> {
    match format {
        ImageFormat::Png => {
            let late_orientation = png_check(bytes)?;
            let mut raster = decode_with(open(bytes, format, options)?, options)?;
            if raster.orientation == Orientation::NoTransforms {
                raster.orientation = late_orientation;
            }
            Ok(raster)
        }
        ImageFormat::WebP => {
            let announced = bytes.get(4..8).map_or(0, |b| {
                u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])) + 8
            });
            if announced > bytes.len() as u64 {
                return Err(ImageError::Truncated(
                    "a WebP file shorter than it announces",
                ));
            }
            decode_with(open(bytes, format, options)?, options)
        }
        _ => decode_with(open(bytes, format, options)?, options),
    }
}

fn open<'a>(
    bytes: &'a [u8],
    format: ImageFormat,
    options: &ReadOptions,
) -> Result<impl ImageDecoder + 'a, ImageError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits(options));
    reader.into_decoder().map_err(failed)
}

fn limits(options: &ReadOptions) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(allocation_limit(options));
    limits
}

fn decode_with(
    mut decoder: impl ImageDecoder,
    options: &ReadOptions,
) -> Result<Raster, ImageError> {
    let (width, height) = decoder.dimensions();
    check_size(width, height, options)?;
    decoder.set_limits(limits(options)).map_err(failed)?;
    let orientation = decoder.orientation().map_err(failed)?;
    let profile = decoder.icc_profile().map_err(failed)?;
    let color = decoder.color_type();
    let channels = match color {
        ColorType::L8 | ColorType::L16 => Channels::Gray,
        ColorType::La8 | ColorType::La16 => Channels::GrayAlpha,
        ColorType::Rgb8 | ColorType::Rgb16 => Channels::Rgb,
        ColorType::Rgba8 | ColorType::Rgba16 => Channels::RgbAlpha,
        other => {
            return Err(ImageError::Unsupported(format!(
                "samples of kind {other:?}"
            )));
        }
    };
    let length = usize::try_from(decoder.total_bytes())
        .map_err(|_| ImageError::Unsupported("a picture too large to address".to_owned()))?;
    let mut data = vec![0; length];
    decoder.read_image(&mut data).map_err(failed)?;
    let samples = if usize::from(color.bytes_per_pixel()) == channels.count() {
        Samples::U8(data)
    } else {
        let values = data
            .chunks_exact(2)
            .map(|pair| u16::from_ne_bytes([pair[0], pair[1]]))
            .collect();
        Samples::U16(values)
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

/// Walks over the chunks of a PNG file: the file must have its end chunk, and an orientation may stand behind the
/// pixels, where the decoder does not look for it.
fn png_check(bytes: &[u8]) -> Result<Orientation, ImageError> {
    let mut at = 8_usize; // behind the signature
    let mut orientation = Orientation::NoTransforms;
    while let Some(header) = bytes.get(at..at.saturating_add(8)) {
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let end = (at + 8).saturating_add(length);
        match &header[4..] {
            b"IEND" => return Ok(orientation),
            b"eXIf" => {
                if let Some(found) = bytes
                    .get(at + 8..end)
                    .and_then(Orientation::from_exif_chunk)
                {
                    orientation = found;
                }
            }
            _ => {}
        }
        at = end.saturating_add(4);
    }
    Err(ImageError::Truncated("a PNG file without its end chunk"))
}

fn failed(error: image::ImageError) -> ImageError {
    match error {
        image::ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated("the data end before the picture does")
        }
        image::ImageError::Unsupported(error) => ImageError::Unsupported(error.to_string()),
        other => ImageError::Decode(Box::new(other)),
    }
}
