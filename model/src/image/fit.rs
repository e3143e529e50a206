//! Fit: how a picture of any size becomes one whose sides are multiples of the network's factor.

use serde::{Deserialize, Serialize};

/// How a picture is brought to a size that the network takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fit {
    /// Dataset tokenization: the short side is resized to `size`, the long side to `floor(size * long / short)`,
    /// and the centre `size` x `size` is cut out (or the views that [`super::Views`] names). Small pictures are
    /// enlarged. This is what torchvision's `Resize` and `CenterCrop` do.
    Crop {
        /// Side of the square view in pixels, a multiple of the factor.
        size: u32,
    },
    /// Every picture whole at its own size, shrunk only if its longer side exceeds `max_side`. The right and bottom
    /// edges are repeated up to the next multiple of the factor; what is decoded is cropped back.
    Whole {
        /// Largest permitted longer side in pixels; `None` keeps every size.
        max_side: Option<u32>,
    },
}

/// Size of a picture after [`Fit::Whole`], before padding: unchanged, or the longer side at `max_side` and the
/// shorter in proportion, rounded half up and at least 1.
pub(super) fn whole_size(width: u32, height: u32, max_side: Option<u32>) -> (u32, u32) {
    let long = width.max(height);
    let Some(max) = max_side.filter(|&max| long > max) else {
        return (width, height);
    };
    let (max, long) = (u64::from(max), u64::from(long));
    let shrink = |side: u32| {
        let side = (2 * u64::from(side) * max + long) / (2 * long);
        u32::try_from(side).unwrap_or(u32::MAX).max(1)
    };
    (shrink(width), shrink(height))
}

/// Size of the resized picture when the short side becomes `short_side`: the long side is
/// `floor(short_side * long / short)`. 64 bits: a line of one by a million pixels has a very long side.
pub(super) fn short_side_size(width: u32, height: u32, short_side: u64) -> (u64, u64) {
    let (width, height) = (u64::from(width), u64::from(height));
    if width <= height {
        (short_side, short_side * height / width)
    } else {
        (short_side * width / height, short_side)
    }
}

/// Repeats the right column and the bottom row of an RGB picture up to `to_width` x `to_height`.
pub(super) fn pad_edges(
    rgb: &[u8],
    (width, height): (usize, usize),
    (to_width, to_height): (usize, usize),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(to_width * to_height * 3);
    for row in rgb.chunks_exact(width * 3).take(height) {
        out.extend_from_slice(row);
        for _ in width..to_width {
            out.extend_from_slice(&row[(width - 1) * 3..]);
        }
    }
    let last_row = (height - 1) * to_width * 3..height * to_width * 3;
    for _ in height..to_height {
        out.extend_from_within(last_row.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_keeps_or_shrinks_the_longer_side() {
        assert_eq!(whole_size(640, 480, None), (640, 480));
        assert_eq!(whole_size(640, 480, Some(640)), (640, 480));
        assert_eq!(whole_size(640, 480, Some(320)), (320, 240));
        assert_eq!(whole_size(3, 10, Some(5)), (2, 5)); // 1.5 rounds up
        assert_eq!(whole_size(1, 10_000, Some(16)), (1, 16));
        assert_eq!(whole_size(u32::MAX, 1, Some(u32::MAX)), (u32::MAX, 1));
    }

    #[test]
    fn long_side_is_floored() {
        assert_eq!(short_side_size(500, 375, 256), (341, 256)); // 341.33
        assert_eq!(short_side_size(375, 500, 256), (256, 341));
        assert_eq!(
            short_side_size(1, u32::MAX, 256),
            (256, 256 * 4_294_967_295)
        );
    }

    #[test]
    fn padding_repeats_the_edges() {
        let rgb = [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]; // 2 x 2
        let padded = pad_edges(&rgb, (2, 2), (3, 4));
        let first_channel: Vec<u8> = padded.iter().step_by(3).copied().collect();
        assert_eq!(first_channel, [1, 2, 2, 3, 4, 4, 3, 4, 4, 3, 4, 4]);
    }
}
