//! The preprocessing record: what happens to a picture between its 8-bit sRGB pixels and the network.

use serde::{Deserialize, Serialize};

use super::{
    Fit, ImageError, Rgb, Views,
    fit::{pad_edges, short_side_size, whole_size},
    resize::{Window, resize_window},
};
use crate::Precision;

/// Version of the record that this program writes, and the only one it reads.
pub const RECORD_VERSION: u32 = 1;

/// Largest record in bytes that [`Preprocessing::from_bytes`] looks at.
pub const RECORD_LIMIT: usize = 4096;

/// Largest permitted crop size, longer side and factor in pixels.
const SIDE_LIMIT: u32 = 1 << 16;

/// How pictures are prepared for the encoder; typed form of the record that a token file carries.
///
/// Ids of two files are comparable when their records are equal byte for byte and so are their encoder and codebook
/// digests. The record states rules, not versions of the libraries that follow them: lossless formats decode to the
/// same pixels everywhere, and JPEG decoding and resizing are integer arithmetic that gives the same bytes on every CPU;
/// but another version of a JPEG decoder may differ by a level here and there (the JPEG standard leaves it that
/// freedom), and so may the conversion of a colour profile on another kind of CPU. That moves only ids that were near
/// ties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    version: u32,
    fit: Fit,
    views: Views,
    factor: u32,
    resize: ResizeRule,
    background: [u8; 3],
    color: ColorRule,
    precision: Precision,
}

/// How pictures are resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum ResizeRule {
    /// See [`resize_window`].
    #[serde(rename = "bicubic a=-0.5, antialiased, 8 bit a pass")]
    Bicubic,
}

/// What happens to colours before resizing; see [`super::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum ColorRule {
    #[serde(rename = "8-bit sRGB, ICC profiles converted, alpha composited over the background")]
    Srgb,
}

/// A picture ready for the encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// One buffer for each view, in the order of [`Views::names`]: [3, height, width] f32 in [-1,1], `v / 127.5 - 1`.
    pub views: Vec<Vec<f32>>,
    /// Height of each view in pixels, a multiple of the factor.
    pub height: usize,
    /// Width of each view in pixels, a multiple of the factor.
    pub width: usize,
    /// Height that decoded pictures are cropped to.
    pub true_height: usize,
    /// Width that decoded pictures are cropped to.
    pub true_width: usize,
}

impl Preprocessing {
    /// `factor` is the number of pixels along a token's side; `background` is what transparent pixels are composited
    /// over, to be given to [`super::ReadOptions`] as well.
    ///
    /// # Errors
    /// [`ImageError::Settings`] if a size is 0 or above 65,536, the crop size is no multiple of the factor, or
    /// ten crops are asked of whole pictures.
    pub fn new(
        fit: Fit,
        views: Views,
        factor: u32,
        background: [u8; 3],
    ) -> Result<Self, ImageError> {
        let record = Preprocessing {
            version: RECORD_VERSION,
            fit,
            views,
            factor,
            resize: ResizeRule::Bicubic,
            background,
            color: ColorRule::Srgb,
            precision: Precision::F32,
        };
        record.check().map_err(ImageError::Settings)?;
        Ok(record)
    }

    fn check(&self) -> Result<(), String> {
        let limited = |what: &str, value: u32| {
            if (1..=SIDE_LIMIT).contains(&value) {
                Ok(())
            } else {
                Err(format!("{what} is 1 to {SIDE_LIMIT}, got {value}"))
            }
        };
        limited("the factor", self.factor)?;
        match self.fit {
            Fit::Crop { size } => {
                limited("the crop size", size)?;
                if !size.is_multiple_of(self.factor) {
                    return Err(format!(
                        "the crop size {size} is not a multiple of the factor {}",
                        self.factor
                    ));
                }
            }
            Fit::Whole { max_side } => {
                if let Some(max_side) = max_side {
                    limited("the largest side", max_side)?;
                }
                if self.views == Views::TenCrop {
                    return Err("whole pictures have no ten crops".to_owned());
                }
            }
        }
        Ok(())
    }

    /// The same for a network that multiplies in `precision`; [`Self::new`] has it in f32.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// How pictures are brought to size.
    pub fn fit(&self) -> Fit {
        self.fit
    }

    /// The views of each picture.
    pub fn views(&self) -> Views {
        self.views
    }

    /// Pixels along the side of a token.
    pub fn factor(&self) -> u32 {
        self.factor
    }

    /// What transparent pixels are composited over (RGB).
    pub fn background(&self) -> [u8; 3] {
        self.background
    }

    /// The record as bytes: one line of JSON with the fields in a fixed order, so that equal settings give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Only integers and strings: there is nothing that JSON could not hold.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`ImageError::RecordVersion`] for another version, [`ImageError::Record`] for anything else that is not a
    /// record, is longer than [`RECORD_LIMIT`] or holds settings that [`Self::new`] refuses.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        if bytes.len() > RECORD_LIMIT {
            return Err(ImageError::Record(format!(
                "has {} bytes, more than the limit of {RECORD_LIMIT}",
                bytes.len()
            )));
        }
        let unreadable = |error: serde_json::Error| ImageError::Record(error.to_string());
        let found: Version = serde_json::from_slice(bytes).map_err(unreadable)?;
        if found.version != u64::from(RECORD_VERSION) {
            return Err(ImageError::RecordVersion {
                expected: RECORD_VERSION,
                got: found.version,
            });
        }
        let record: Preprocessing = serde_json::from_slice(bytes).map_err(unreadable)?;
        record.check().map_err(ImageError::Record)?;
        Ok(record)
    }

    /// Width and height to which what is decoded must be cropped, for a picture of `width` x `height` pixels upright.
    pub fn content_size(&self, width: u32, height: u32) -> (u32, u32) {
        match self.fit {
            Fit::Crop { size } => (size, size),
            Fit::Whole { max_side } => whole_size(width, height, max_side),
        }
    }

    /// Width and height of what the network sees of such a picture: [`Self::content_size`], up to multiples of the
    /// factor. 64 bits, since the next multiple may lie beyond 32.
    pub fn network_size(&self, width: u32, height: u32) -> (u64, u64) {
        let (width, height) = self.content_size(width, height);
        let factor = u64::from(self.factor);
        (
            u64::from(width).next_multiple_of(factor),
            u64::from(height).next_multiple_of(factor),
        )
    }

    /// Width and height to which the picture decoded from a grid of `rows` x `cols` ids must be cropped. `original` are width and height of
    /// the picture it was made of, where they are known: without them a whole picture keeps what was padded.
    ///
    /// `None` if a picture of that size does not give such a grid.
    pub fn decoded_size(
        &self,
        original: Option<(u32, u32)>,
        rows: u32,
        cols: u32,
    ) -> Option<(u32, u32)> {
        let side = |ids: u32| u64::from(ids) * u64::from(self.factor);
        let grid = (side(cols), side(rows));
        let (width, height) = match (self.fit, original) {
            // A crop is the same whatever it was cut from.
            (Fit::Crop { size }, _) => (size, size),
            (Fit::Whole { .. }, Some(size)) => size,
            (Fit::Whole { .. }, None) => {
                return Some((u32::try_from(grid.0).ok()?, u32::try_from(grid.1).ok()?));
            }
        };
        (self.network_size(width, height) == grid).then(|| self.content_size(width, height))
    }

    /// Prepares every view of a picture. Needs about 15 bytes for each pixel of [`Self::network_size`] and view:
    /// callers that take pictures of any size should look at that first.
    ///
    /// # Errors
    /// [`ImageError::Length`] or [`ImageError::Empty`] if `rgb` contradicts itself, [`ImageError::Shape`] if the padded
    /// picture is too large to address.
    pub fn prepare(&self, rgb: &Rgb) -> Result<Prepared, ImageError> {
        rgb.check()?;
        let (true_width, true_height) = self.content_size(rgb.width, rgb.height);
        let (width, height) = self.network_size(rgb.width, rgb.height);
        if width
            .checked_mul(height)
            .and_then(|pixels| pixels.checked_mul(12))
            .is_none_or(|bytes| isize::try_from(bytes).is_err())
        {
            return Err(ImageError::Shape {
                width: rgb.width,
                height: rgb.height,
                reason: "too large to address",
            });
        }
        let content = (true_width as usize, true_height as usize);
        let padded = (width as usize, height as usize);
        let cuts = self.cut(rgb)?;
        let plain = cuts.iter().map(|cut| to_unit(cut, content, padded));
        let views = if self.views.mirrored() {
            let flipped = cuts
                .iter()
                .map(|cut| to_unit(&mirror(cut, content.0), content, padded));
            plain.chain(flipped).collect()
        } else {
            plain.collect()
        };
        Ok(Prepared {
            views,
            height: padded.1,
            width: padded.0,
            true_height: content.1,
            true_width: content.0,
        })
    }

    /// The resized content of each view that is not a mirror image, as RGB bytes of [`Self::content_size`].
    fn cut(&self, rgb: &Rgb) -> Result<Vec<Vec<u8>>, ImageError> {
        match self.fit {
            Fit::Crop { size } => {
                let short_side = self.views.resized_short_side(size);
                let resized = short_side_size(rgb.width, rgb.height, short_side);
                self.views
                    .places()
                    .iter()
                    .map(|place| {
                        let (left, top) = place.offset(resized.0, resized.1, u64::from(size));
                        let window = Window {
                            left,
                            top,
                            width: size,
                            height: size,
                        };
                        resize_window(rgb, resized, window)
                    })
                    .collect()
            }
            Fit::Whole { max_side } => {
                let (width, height) = whole_size(rgb.width, rgb.height, max_side);
                let window = Window {
                    left: 0,
                    top: 0,
                    width,
                    height,
                };
                let resized = (u64::from(width), u64::from(height));
                Ok(vec![resize_window(rgb, resized, window)?])
            }
        }
    }
}

/// RGB rows with left and right exchanged.
pub(super) fn mirror(rgb: &[u8], width: usize) -> Vec<u8> {
    rgb.chunks_exact(width * 3)
        .flat_map(|row| row.rchunks_exact(3))
        .flatten()
        .copied()
        .collect()
}

/// `v / 127.5 - 1` for every 8-bit value.
const UNIT: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut v = 0;
    while v < 256 {
        table[v] = v as f32 / 127.5 - 1.0;
        v += 1;
    }
    table
};

/// RGB bytes of `content` size (width, height) to [3, height, width] in [-1,1], edges repeated up to `padded` size.
pub(super) fn to_unit(rgb: &[u8], content: (usize, usize), padded: (usize, usize)) -> Vec<f32> {
    let grown;
    let rgb = if content == padded {
        rgb
    } else {
        grown = pad_edges(rgb, content, padded);
        &grown
    };
    let mut out = Vec::with_capacity(rgb.len());
    for channel in 0..3 {
        out.extend(
            rgb.iter()
                .skip(channel)
                .step_by(3)
                .map(|&v| UNIT[usize::from(v)]),
        );
    }
    out
}
