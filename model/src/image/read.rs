//! Reading pictures of any supported kind as 8-bit sRGB.

use std::{
    fs::File,
    io::Read,
    panic::{self, AssertUnwindSafe},
    path::Path,
};

use image::ImageFormat;

use super::{ImageError, color, jpeg, plain, raster::Raster, tiff};

/// Limits and rules for reading pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Most pixels a picture may have, looked at before anything is decoded. Default 2^27 (134 million).
    pub max_pixels: u64,
    /// RGB colour that transparent pixels are composited over. Default white.
    pub background: [u8; 3],
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            max_pixels: 1 << 27,
            background: [255; 3],
        }
    }
}

/// What became of a picture's ICC colour profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Icc {
    /// There was none: the values are taken for sRGB.
    #[default]
    None,
    /// The profile is sRGB: nothing to do.
    Srgb,
    /// The pixels were converted from the profile to sRGB.
    Converted,
    /// The profile could not be used, for this reason; the values are taken for sRGB, colours may be off.
    Ignored(String),
}

/// An upright, opaque picture: 8-bit sRGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// [height, width, 3] bytes, row after row.
    pub data: Vec<u8>,
    /// What became of its colour profile.
    pub icc: Icc,
}

impl Rgb {
    /// That there are pixels, and as many as the size says.
    pub(super) fn check(&self) -> Result<(), ImageError> {
        if self.width == 0 || self.height == 0 {
            return Err(ImageError::Empty {
                width: self.width,
                height: self.height,
            });
        }
        let expected = u64::from(self.width)
            .saturating_mul(u64::from(self.height))
            .saturating_mul(3);
        if self.data.len() as u64 != expected {
            return Err(ImageError::Length {
                width: u64::from(self.width),
                height: u64::from(self.height),
                expected,
                got: self.data.len() as u64,
            });
        }
        Ok(())
    }
}

/// Extensions of picture files, in lower case.
const EXTENSIONS: [&str; 15] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff", "pnm", "ppm",
    "pgm", "pbm",
];

/// Whether a file's name says that it is a picture of a supported format, by its extension in any case. What the file
/// really holds is decided by its content when it is read.
pub fn is_picture_name(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| {
            EXTENSIONS
                .iter()
                .chain(&["pam"])
                .any(|known| extension.eq_ignore_ascii_case(known))
        })
}

/// Reads a picture file; the format is detected by content.
///
/// # Errors
/// See [`read_bytes`]; also [`ImageError::Io`], [`ImageError::NotAFile`] and [`ImageError::FileTooLarge`].
pub fn read(path: &Path, options: &ReadOptions) -> Result<Rgb, ImageError> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(ImageError::NotAFile);
    }
    let limit = options.max_pixels.saturating_mul(8).saturating_add(1 << 26);
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ImageError::FileTooLarge {
            limit,
            max_pixels: options.max_pixels,
        });
    }
    read_bytes(&bytes, options)
}

/// Reads a picture from the bytes of its file. Of an animation or a file of several pages, the first picture.
///
/// Every kind becomes 8-bit sRGB in this order: samples to 8 bit (16 bit by `round(v / 257)`, floating point as 0 to
/// 1); ICC profile to sRGB, see [`Icc`]; CMYK without a usable profile by `(255 - C) (255 - K) / 255`; grey
/// replicated; alpha composited over the background; EXIF or TIFF orientation applied. Gamma and chromaticity chunks
/// of PNG without a profile are not looked at.
///
/// # Errors
/// A typed error for anything that is not a whole picture within the limits; never a panic. JPEG, GIF, BMP and PNM have
/// no checksums: changed bytes that still decode are not noticed.
pub fn read_bytes(bytes: &[u8], options: &ReadOptions) -> Result<Rgb, ImageError> {
    // The decoders and the colour engine are other people's code fed with hostile bytes. A panic in one of them is a
    // defect there, which must cost this picture and not the whole job.
    panic::catch_unwind(AssertUnwindSafe(|| {
        color::to_srgb(decode(bytes, options)?, options.background)
    }))
    .unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(ImageError::DecoderPanic(message.to_owned()))
    })
}

fn decode(bytes: &[u8], options: &ReadOptions) -> Result<Raster, ImageError> {
    // Large TIFF files have a version number of their own.
    if bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+") {
        return tiff::decode(bytes, options);
    }
    match image::guess_format(bytes).map_err(|_| ImageError::UnknownFormat)? {
        ImageFormat::Jpeg => jpeg::decode(bytes, options),
        ImageFormat::Tiff => tiff::decode(bytes, options),
        format @ (ImageFormat::Png
        | ImageFormat::Gif
        | ImageFormat::WebP
        | ImageFormat::Bmp
        | ImageFormat::Pnm) => plain::decode(bytes, format, options),
        other => Err(ImageError::Unsupported(format!("{other:?} pictures"))),
    }
}
