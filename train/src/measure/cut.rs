//! How pictures that lie in folders are read: as they are, or their centres at one size.

use std::path::Path;

use vqlc_model::image::{Fit, Preprocessing, ReadOptions, Rgb, Views, read, to_rgb8};

use crate::Result;

/// Reads pictures and cuts them.
pub(super) struct Cut(Option<(usize, Preprocessing)>);

impl Cut {
    /// Centre crops of `size` pixels a side, the short side resized to it first; without a size pictures as they are.
    ///
    /// # Errors
    /// A size that no crop can have.
    pub(super) fn new(size: Option<usize>) -> Result<Self> {
        let Some(size) = size else {
            return Ok(Self(None));
        };
        let fit = Fit::Crop {
            size: u32::try_from(size).unwrap_or(u32::MAX),
        };
        let rule = Preprocessing::new(fit, Views::Center, 1, [255; 3])?;
        Ok(Self(Some((size, rule))))
    }

    /// The picture of a file, or why there is none.
    pub(super) fn read(&self, path: &Path) -> Result<Rgb, String> {
        let rgb = read(path, &ReadOptions::default()).map_err(|e| e.to_string())?;
        let Some((size, rule)) = &self.0 else {
            return Ok(rgb);
        };
        let prepared = rule.prepare(&rgb).map_err(|e| e.to_string())?;
        to_rgb8(&prepared.views[0], *size, *size, *size, *size).map_err(|e| e.to_string())
    }

    /// The rule in words.
    pub(super) fn words(&self) -> String {
        match &self.0 {
            Some((size, _)) => crop_rule(*size),
            None => "pictures as they are".to_owned(),
        }
    }
}

/// The rule of centre crops in words.
pub(super) fn crop_rule(size: usize) -> String {
    format!("short side to {size} (bicubic, antialiased), centre crop {size} x {size}")
}
