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
    // First along the rows, as Pillow does (the order shows where a pass clips at a hard edge), and only those rows
    // that the second pass looks at: its kernel reaches two pixels of the smaller picture past the window.
    let reach = 2.0 * (height / f64::from(window.height)).max(1.0) + 1.0;
    let first = (top - reach).max(0.0) as u32;
    let last = ((top + height + reach).ceil() as u32).min(rgb.height);
    let row = rgb.width as usize * 3;
    let rows = &rgb.data[first as usize * row..last as usize * row];
    let narrow = pass(
        (rows, rgb.width, last - first),
        (left, 0.0, width, f64::from(last - first)),
        (window.width, last - first),
    )?;
    pass(
        (&narrow, window.width, last - first),
        (0.0, top - f64::from(first), f64::from(window.width), height),
        (window.width, window.height),
    )
}

/// Resizes a part (left, top, width, height) of RGB bytes of the given width and height; the part is cut at the edges,
/// past which rounding may have pushed it.
fn pass(
    (rgb, width, height): (&[u8], u32, u32),
    (left, top, part_width, part_height): (f64, f64, f64, f64),
    (to_width, to_height): (u32, u32),
) -> Result<Vec<u8>, ImageError> {
    let failed = |error: String| ImageError::Unsupported(format!("resizing: {error}"));
    let source = ImageRef::new(width, height, rgb, PixelType::U8x3)
        .map_err(|error| failed(error.to_string()))?;
    let mut out = Image::new(to_width, to_height, PixelType::U8x3);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .use_alpha(false)
        .crop(
            left,
            top,
            part_width.min(f64::from(width) - left),
            part_height.min(f64::from(height) - top),
        );
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
    (start, f64::from(length) * scale)
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
