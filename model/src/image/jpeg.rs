//! JPEG, including the four-colour kinds that other decoders get wrong.

use image::metadata::Orientation;
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use super::{
    ImageError, ReadOptions,
    raster::{Channels, Raster, Samples, check_size, ycc_to_rgb},
};

/// Decodes a JPEG file. Four-colour files are taken to store their values inverted, as Adobe's programs write them.
pub(super) fn decode(bytes: &[u8], options: &ReadOptions) -> Result<Raster, ImageError> {
    let failed = |error: zune_jpeg::errors::DecodeErrors| ImageError::Decode(Box::new(error));
    if !is_complete(bytes) {
        return Err(ImageError::Truncated("a JPEG file without its end marker"));
    }
    // Between the headers of real files there may be stray bytes; within the coded data anything odd means damage, for
    // which the lenient mode would fill in grey.
    let lenient = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), lenient);
    decoder.decode_headers().map_err(failed)?;
    let no_header = || ImageError::Truncated("a JPEG file without a frame header");
    let (width, height) = decoder.dimensions().ok_or_else(no_header)?;
    let side = |side: usize| u32::try_from(side).map_err(|_| no_header());
    let (width, height) = (side(width)?, side(height)?);
    check_size(width, height, options)?;

    let stored = decoder.input_colorspace().ok_or_else(no_header)?;
    let (wanted, channels) = match stored {
        ColorSpace::Luma => (ColorSpace::Luma, Channels::Gray),
        ColorSpace::YCbCr | ColorSpace::RGB => (ColorSpace::RGB, Channels::Rgb),
        ColorSpace::CMYK | ColorSpace::YCCK => (stored, Channels::Cmyk),
        other => {
            return Err(ImageError::Unsupported(format!(
                "JPEG with colour space {other:?}"
            )));
        }
    };
    decoder.set_options(
        lenient
            .set_strict_mode(true)
            .jpeg_set_out_colorspace(wanted),
    );
    let mut values = decoder.decode().map_err(failed)?;
    match stored {
        ColorSpace::CMYK => values.iter_mut().for_each(|v| *v = 255 - *v),
        ColorSpace::YCCK => {
            for pixel in values.chunks_exact_mut(4) {
                // The transform gives 255 - stored = ink for the three colours, but black is stored as it is.
                let [c, m, y] = ycc_to_rgb([pixel[0], pixel[1], pixel[2]]);
                pixel.copy_from_slice(&[c, m, y, 255 - pixel[3]]);
            }
        }
        _ => {}
    }
    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif))
        .unwrap_or(Orientation::NoTransforms);
    Ok(Raster {
        width,
        height,
        channels,
        samples: Samples::U8(values),
        profile: decoder.icc_profile(),
        orientation,
    })
}

/// Whether the end marker follows the coded data. The decoder does not miss it, but without it the last rows may be
/// made up.
fn is_complete(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    const START_OF_SCAN: u8 = 0xDA;
    let mut at = 2; // behind the start marker
    let mut in_scan = false;
    while let Some(rest) = bytes.get(at..) {
        let Some(position) = rest.iter().position(|&byte| byte == 0xFF) else {
            return false;
        };
        let Some(&marker) = rest.get(position + 1) else {
            return false;
        };
        at += position + 1;
        match marker {
            0xFF => {}                            // fill byte
            0x00 | 0x01 | 0xD0..=0xD8 => at += 1, // data, or a marker without content
            END_OF_IMAGE => return in_scan,
            _ => {
                let Some(length) = bytes.get(at + 1..at + 3) else {
                    return false;
                };
                in_scan |= marker == START_OF_SCAN;
                at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inks(bytes: &[u8]) -> Vec<u8> {
        let raster = decode(bytes, &ReadOptions::default()).unwrap();
        assert_eq!(raster.channels, Channels::Cmyk);
        match raster.samples {
            Samples::U8(values) => values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn four_colours_with_luminance() {
        // The CMYK file with its Adobe marker changed to say that the same stored values are YCCK. Pillow agrees with
        // the result within two levels.
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../fixtures/reference/preprocess/cmyk.jpg"
        );
        let mut bytes = std::fs::read(path).unwrap();
        let plain = inks(&bytes);
        let adobe = bytes.windows(5).position(|w| w == b"Adobe").unwrap();
        assert_eq!(bytes[adobe + 11], 0);
        bytes[adobe + 11] = 2;
        for (plain, got) in plain.chunks(4).zip(inks(&bytes).chunks(4)) {
            let [y, cb, cr] = [0, 1, 2].map(|c| f64::from(255 - plain[c]));
            let (cb, cr) = (cb - 128.0, cr - 128.0);
            let expected = [
                y + 1.402 * cr,
                y - 0.344_136 * cb - 0.714_136 * cr,
                y + 1.772 * cb,
                f64::from(plain[3]),
            ];
            for (expected, got) in expected.iter().zip(got) {
                let off = (expected.clamp(0.0, 255.0) - f64::from(*got)).abs();
                assert!(off <= 0.51, "{expected} became {got}");
            }
        }
    }
}
