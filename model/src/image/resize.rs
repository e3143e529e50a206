//! Antialiased bicubic resizing in 8 bit.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use super::{ImageError, Rgb};

/// A window of a resized picture, in pixels of the resized picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) left: u64,
    pub(super) top: u64,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// The `window` of `rgb` resized to `to_width` x `to_height`: bicubic with a = -0.5 (Keys 1981), the kernel
/// stretched when shrinking so that it also is the antialiasing filter, separable, each pass in fixed point and
/// rounded to 8 bit, which is what Pillow's `BICUBIC` does. Integer arithmetic: every CPU gives the same bytes.
///
/// Only the window is computed (the kernel still reaches past its edges into the picture), so that the cost does not
/// grow with the aspect ratio. Returns RGB bytes of the window's size.
pub(super) fn resize_window(
    rgb: &Rgb,
    (to_width, to_height): (u64, u64),
    window: Window,
) -> Result<Vec<u8>, ImageError> {
    if (to_width, to_height) == (u64::from(rgb.width), u64::from(rgb.height)) {
        return Ok(copy_window(rgb, window));
    }
    let (left, width) = source_range(rgb.width, to_width, window.left, window.width);
    let (top, height) = source_range(rgb.height, to_height, window.top, window.height);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .use_alpha(false)
        .crop(left, top, width, height);
    let failed = |error: String| ImageError::Unsupported(format!("resizing: {error}"));
    let source = ImageRef::new(rgb.width, rgb.height, &rgb.data, PixelType::U8x3)
        .map_err(|error| failed(error.to_string()))?;
    let mut out = Image::new(window.width, window.height, PixelType::U8x3);
    Resizer::new()
        .resize(&source, &mut out, &options)
        .map_err(|error| failed(error.to_string()))?;
    Ok(out.into_vec())
}

/// Start and length in source pixels of the `length` pixels from `start` on of a side resized from `from` to `to`.
fn source_range(from: u32, to: u64, start: u64, length: u32) -> (f64, f64) {
    let from = f64::from(from);
    if u64::from(length) == to {
        return (0.0, from);
    }
    let scale = from / to as f64;
    let start = start as f64 * scale;
    // Rounding must not push the end out of the picture.
    (start, (f64::from(length) * scale).min(from - start))
}

fn copy_window(rgb: &Rgb, window: Window) -> Vec<u8> {
    let (left, top) = (window.left as usize, window.top as usize);
    let row = rgb.width as usize * 3;
    let mut out = Vec::with_capacity(window.width as usize * window.height as usize * 3);
    for line in rgb
        .data
        .chunks_exact(row)
        .skip(top)
        .take(window.height as usize)
    {
        out.extend_from_slice(&line[left * 3..(left + window.width as usize) * 3]);
    }
    out
}
