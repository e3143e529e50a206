//! Views: the named cut-outs that are tokenized of each picture.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::ImageError;

/// Which views of each picture are tokenized.
///
/// Pictures are commonly tokenized once as they are, with their mirror image, or as ten crops, so that a
/// generator trained on the ids still sees augmented data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Views {
    /// One view: `center`.
    #[default]
    Center,
    /// Two views: `center`, and its mirror image (left and right exchanged) `center-flip`.
    Flip,
    /// Ten views: centre and corners of a somewhat larger resize, then the mirror images of these five in the same
    /// order. The short side is resized to `round(size * 256 / 224)` as is usual for ten-crop evaluation
    /// (Krizhevsky et al. 2012; 293 for size 256), and the corners are those of the whole resized picture.
    TenCrop,
}

/// Where a view lies within the resized picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Center,
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}

impl Place {
    const TEN_CROP: [Place; 5] = [
        Place::Center,
        Place::TopLeft,
        Place::TopRight,
        Place::BottomLeft,
        Place::BottomRight,
    ];

    fn name(self) -> &'static str {
        match self {
            Place::Center => "center",
            Place::TopLeft => "top-left",
            Place::TopRight => "top-right",
            Place::BottomLeft => "bottom-left",
            Place::BottomRight => "bottom-right",
        }
    }

    /// Left and top of a `size` x `size` window in a picture of `width` x `height`, both at least `size`.
    /// The centre follows torchvision's `CenterCrop`: half of the margin, rounded half to even.
    pub(super) fn offset(self, width: u64, height: u64, size: u64) -> (u64, u64) {
        let (right, bottom) = (width - size, height - size);
        match self {
            Place::Center => (half_to_even(right), half_to_even(bottom)),
            Place::TopLeft => (0, 0),
            Place::TopRight => (right, 0),
            Place::BottomLeft => (0, bottom),
            Place::BottomRight => (right, bottom),
        }
    }
}

/// `n / 2`, rounded to the even neighbour when `n` is odd, as Python's `round` does.
fn half_to_even(n: u64) -> u64 {
    let half = n / 2;
    half + (n & half & 1)
}

impl Views {
    /// The names of the views, in the order of the records.
    pub fn names(self) -> Vec<String> {
        let places = self.places();
        let plain = places.iter().map(|place| place.name().to_owned());
        let flipped = places.iter().map(|place| format!("{}-flip", place.name()));
        match self {
            Views::Center => plain.collect(),
            Views::Flip | Views::TenCrop => plain.chain(flipped).collect(),
        }
    }

    /// Number of views of each picture.
    pub fn count(self) -> usize {
        match self {
            Views::Center => 1,
            Views::Flip => 2,
            Views::TenCrop => 10,
        }
    }

    /// The views that are not mirror images; with [`Self::mirrored`], each has one, after all plain ones.
    pub(super) fn places(self) -> &'static [Place] {
        match self {
            Views::Center | Views::Flip => &[Place::Center],
            Views::TenCrop => &Place::TEN_CROP,
        }
    }

    pub(super) fn mirrored(self) -> bool {
        self != Views::Center
    }

    /// Short side of the resized picture from which views of `size` x `size` pixels are cut.
    pub(super) fn resized_short_side(self, size: u32) -> u64 {
        let size = u64::from(size);
        match self {
            Views::Center | Views::Flip => size,
            Views::TenCrop => (size * 256 + 112) / 224,
        }
    }
}

impl fmt::Display for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Views::Center => "center",
            Views::Flip => "flip",
            Views::TenCrop => "ten-crop",
        })
    }
}

impl FromStr for Views {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        match text {
            "center" => Ok(Views::Center),
            "flip" => Ok(Views::Flip),
            "ten-crop" => Ok(Views::TenCrop),
            other => Err(ImageError::Settings(format!(
                "views are center, flip or ten-crop, got {other:?}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centre_offsets_round_as_python_does() {
        // Python: [round(n / 2) for n in range(9)]
        let expected = [0, 0, 1, 2, 2, 2, 3, 4, 4];
        for (n, expected) in expected.into_iter().enumerate() {
            assert_eq!(half_to_even(n as u64), expected, "round({n} / 2)");
        }
    }

    #[test]
    fn names_count_and_text_agree() {
        for views in [Views::Center, Views::Flip, Views::TenCrop] {
            let names = views.names();
            assert_eq!(names.len(), views.count());
            let distinct: std::collections::HashSet<_> = names.iter().collect();
            assert_eq!(distinct.len(), names.len());
            assert_eq!(names[0], "center");
            assert_eq!(views.to_string().parse::<Views>().unwrap(), views);
        }
        assert!("tencrop".parse::<Views>().is_err());
    }

    #[test]
    fn ten_crop_resizes_as_256_to_224() {
        assert_eq!(Views::TenCrop.resized_short_side(224), 256);
        assert_eq!(Views::TenCrop.resized_short_side(256), 293);
        assert_eq!(Views::Flip.resized_short_side(256), 256);
    }
}
