//! One square cut out of a picture at a chosen scale and place: what training sees of it.

use super::{
    ImageError, Rgb,
    fit::short_side_size,
    record::{mirror, to_unit},
    resize::{Window, resize_window},
};

/// A square cut-out of a resized picture. The resizing is that of [`super::Preprocessing`]: training sees pictures of the
/// same kind as the tokenizer does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SquareCrop {
    /// Pixels that the short side is resized to, at least [`Self::size`]; the long side follows in proportion, floored.
    pub short_side: u32,
    /// Side of the square in pixels.
    pub size: u32,
    /// Where the square lies from left to right, in [0,1): every possible column has an equal share of the interval.
    pub across: f64,
    /// The same from top to bottom.
    pub down: f64,
    /// Whether left and right are exchanged.
    pub mirrored: bool,
}

impl SquareCrop {
    /// The pixels: [3, size, size] f32 in [-1,1], `v / 127.5 - 1`.
    ///
    /// # Errors
    /// [`ImageError::Settings`] for a size of 0, a short side below it or above 65,536, or a place outside [0,1);
    /// [`ImageError::Length`] or [`ImageError::Empty`] if `rgb` contradicts itself.
    pub fn cut(&self, rgb: &Rgb) -> Result<Vec<f32>, ImageError> {
        rgb.check()?;
        let within = |place: f64| (0.0..1.0).contains(&place);
        let sides = 1 <= self.size && self.size <= self.short_side && self.short_side <= 1 << 16;
        if !(sides && within(self.across) && within(self.down)) {
            return Err(ImageError::Settings(format!("no such crop: {self:?}")));
        }
        let resized = short_side_size(rgb.width, rgb.height, u64::from(self.short_side));
        // Below 1 times a number that f64 holds exactly: the product is below that number, or rounds to it.
        let start = |side: u64, place: f64| {
            let room = side - u64::from(self.size);
            ((place * (room + 1) as f64) as u64).min(room)
        };
        let window = Window {
            left: start(resized.0, self.across),
            top: start(resized.1, self.down),
            width: self.size,
            height: self.size,
        };
        let side = self.size as usize;
        let mut bytes = resize_window(rgb, resized, window)?;
        if self.mirrored {
            bytes = mirror(&bytes, side);
        }
        Ok(to_unit(&bytes, (side, side), (side, side)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Fit, Icc, Preprocessing, Views};

    fn picture(width: u32, height: u32) -> Rgb {
        let value = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
        Rgb {
            width,
            height,
            data: (0..width * height * 3).map(value).collect(),
            icc: Icc::None,
        }
    }

    #[test]
    fn the_middle_is_what_the_tokenizer_prepares() {
        // A margin of 16: the middle starts at column 8, which holds the places from 8/17 to 9/17.
        let rgb = picture(48, 32);
        let prepared = Preprocessing::new(Fit::Crop { size: 32 }, Views::Flip, 1, [255; 3])
            .and_then(|rule| rule.prepare(&rgb))
            .unwrap();
        for (mirrored, view) in [(false, 0), (true, 1)] {
            let crop = SquareCrop {
                short_side: 32,
                size: 32,
                across: 0.5,
                down: 0.5,
                mirrored,
            };
            assert_eq!(crop.cut(&rgb).unwrap(), prepared.views[view]);
        }
    }

    #[test]
    fn every_place_is_inside_and_others_are_refused() {
        let rgb = picture(7, 9);
        let crop = SquareCrop {
            short_side: 7,
            size: 5,
            across: 0.0,
            down: 0.0,
            mirrored: false,
        };
        let red = |x: usize, y: usize| f32::from(rgb.data[(y * 7 + x) * 3]) / 127.5 - 1.0;
        assert_eq!(crop.cut(&rgb).unwrap()[0], red(0, 0));
        let last = 1.0 - f64::EPSILON / 2.0;
        let far = SquareCrop {
            across: last,
            down: last,
            ..crop
        };
        assert_eq!(far.cut(&rgb).unwrap()[24], red(6, 8));
        for bad in [
            SquareCrop { size: 0, ..crop },
            SquareCrop { size: 8, ..crop },
            SquareCrop {
                across: 1.0,
                ..crop
            },
            SquareCrop {
                down: f64::NAN,
                ..crop
            },
            SquareCrop {
                short_side: u32::MAX,
                ..crop
            },
        ] {
            assert!(bad.cut(&rgb).is_err(), "{bad:?}");
        }
    }
}
