//! Pictures beside their reconstructions.

use vqlc_model::image::{Icc, OutFormat, Rgb, to_rgb8, write};

use crate::{Error, Result};

/// Pixels between pictures, white.
const GAP: usize = 2;

/// One picture of pairs, the original to the left and its reconstruction to the right, `columns` pairs a row: what
/// [`vqlc_model::image::write`] writes and [`super::Events::picture`] shows.
///
/// `originals` and `reconstructions` are [n, 3, height, width] in [-1,1] (values beyond are cut off), `size` is (height, width).
///
/// # Errors
/// [`Error::Argument`] for lengths that do not fit, no pictures, no columns, or a value that is not a number.
pub fn grid(
    originals: &[f32],
    reconstructions: &[f32],
    size: (usize, usize),
    columns: usize,
) -> Result<Rgb> {
    let (height, width) = size;
    if originals.len() != reconstructions.len() {
        return Err(refused(
            "as many originals as reconstructions".into(),
            format!("{} and {} values", originals.len(), reconstructions.len()),
        ));
    }
    let length = (3 * height * width).max(1);
    let pairs = (originals.chunks(length)).zip(reconstructions.chunks(length));
    let tiles: Vec<f32> = pairs
        .flat_map(|(original, made)| [original, made])
        .flatten()
        .copied()
        .collect();
    sheet(&tiles, size, columns * 2)
}

/// Pictures side by side, `columns` a row (a contact sheet), on white: `pictures` are [n, 3, height, width] in [-1,1] (values beyond
/// are cut off), `size` is (height, width).
///
/// # Errors
/// [`Error::Argument`] for a length that does not fit, no pictures, no columns, or a value that is not a number.
pub fn sheet(pictures: &[f32], size: (usize, usize), columns: usize) -> Result<Rgb> {
    let (height, width) = size;
    let length = height
        .checked_mul(width)
        .and_then(|pixels| pixels.checked_mul(3))
        .filter(|&length| length > 0 && pictures.len().is_multiple_of(length));
    let Some(length) = length else {
        return Err(refused(
            format!("n x 3 x {height} x {width} values"),
            pictures.len().to_string(),
        ));
    };
    let count = pictures.len() / length;
    if count == 0 || columns == 0 {
        return Err(refused(
            "at least one picture and column".into(),
            format!("{count} and {columns}"),
        ));
    }
    let columns = columns.min(count);
    let rows = count.div_ceil(columns);
    let full_width = columns * (width + GAP) - GAP;
    let full_height = rows * (height + GAP) - GAP;
    let mut data = vec![255; full_width * full_height * 3];
    for (number, pixels) in pictures.chunks_exact(length).enumerate() {
        let rgb = to_rgb8(pixels, height, width, height, width)
            .map_err(|e| refused("pixels in [-1,1]".into(), e.to_string()))?;
        let left = number % columns * (width + GAP);
        let top = number / columns * (height + GAP);
        for (y, row) in rgb.data.chunks_exact(width * 3).enumerate() {
            let start = ((top + y) * full_width + left) * 3;
            data[start..start + row.len()].copy_from_slice(row);
        }
    }
    let side = |side: usize| {
        u32::try_from(side).map_err(|_| refused("fewer pixels".into(), side.to_string()))
    };
    Ok(Rgb {
        width: side(full_width)?,
        height: side(full_height)?,
        data,
        icc: Icc::None,
    })
}

/// A picture as PNG.
///
/// # Errors
/// [`vqlc_model::image::ImageError`] for one that contradicts itself.
pub fn png(picture: &Rgb) -> Result<Vec<u8>> {
    let mut png = Vec::new();
    write(picture, OutFormat::Png, &mut png)?;
    Ok(png)
}

fn refused(expected: String, found: String) -> Error {
    Error::Argument {
        what: "grid of pictures",
        expected,
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_lie_side_by_side() {
        // Three pictures of one colour each, 2 x 4 pixels, two pairs a row.
        let picture = |v: f32| vec![v; 3 * 2 * 4];
        let originals = [-1.0, 0.0, 1.0].map(picture).concat();
        let reconstructions = [-0.9, 0.1, 5.0].map(picture).concat();
        let grid = grid(&originals, &reconstructions, (2, 4), 2).unwrap();
        assert_eq!((grid.width, grid.height), (4 * 4 + 3 * 2, 2 * 2 + 2));
        let row = |y: usize| -> Vec<u8> {
            let row = &grid.data[y * 22 * 3..(y + 1) * 22 * 3];
            row.iter().step_by(3).copied().collect()
        };
        let line = |values: [u8; 4]| {
            let gap = [255; 2];
            values.map(|v| vec![v; 4]).join(&gap[..])
        };
        for y in [0, 1] {
            assert_eq!(row(y), line([0, 13, 128, 140]));
            assert_eq!(row(y + 4), line([255; 4]));
            assert_eq!(row(y + 2), [255; 22]);
        }
    }

    #[test]
    fn what_is_no_grid_is_refused() {
        let good = [0.0; 12];
        assert!(grid(&good, &good, (2, 2), 1).is_ok());
        assert!(grid(&good, &good[..6], (2, 2), 1).is_err());
        assert!(grid(&good, &good, (2, 3), 1).is_err());
        assert!(grid(&good, &good, (0, 2), 1).is_err());
        assert!(grid(&good, &good, (2, 2), 0).is_err());
        assert!(grid(&[], &[], (2, 2), 1).is_err());
        assert!(grid(&[f32::NAN; 12], &good, (2, 2), 1).is_err());
    }
}
