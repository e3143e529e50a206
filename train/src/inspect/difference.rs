//! Where two pictures differ.

use vqlc_model::image::{Icc, Rgb};

use crate::{Error, Result};

/// `|a - b|` of every channel times `factor`, cut off at 255: black where the pictures are equal.
///
/// # Errors
/// [`Error::Argument`] for pictures of different sizes.
pub fn difference(a: &Rgb, b: &Rgb, factor: u8) -> Result<Rgb> {
    let size = |rgb: &Rgb| (rgb.width, rgb.height, rgb.data.len());
    if size(a) != size(b) {
        return Err(Error::Argument {
            what: "pictures",
            expected: format!("{} x {} pixels", a.width, a.height),
            found: format!("{} x {}", b.width, b.height),
        });
    }
    let pairs = a.data.iter().zip(&b.data);
    Ok(Rgb {
        width: a.width,
        height: a.height,
        data: pairs
            .map(|(a, b)| a.abs_diff(*b).saturating_mul(factor))
            .collect(),
        icc: Icc::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amplified_and_cut_off() {
        let rgb = |data: [u8; 3], height| Rgb {
            width: 1,
            height,
            data: data.into(),
            icc: Icc::None,
        };
        let (a, b) = (rgb([10, 0, 200], 1), rgb([7, 255, 200], 1));
        assert_eq!(difference(&a, &b, 4).unwrap().data, [12, 255, 0]);
        assert!(difference(&a, &rgb([0; 3], 2), 4).is_err());
    }
}
