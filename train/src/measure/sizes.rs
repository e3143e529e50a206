//! The sizes of pictures, for protocols.

use std::{collections::BTreeSet, fmt};

use vqlc_model::image::Rgb;

/// The sizes met.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes(BTreeSet<(u32, u32)>);

impl Sizes {
    pub(super) fn add(&mut self, pictures: &[Rgb]) {
        self.0
            .extend(pictures.iter().map(|rgb| (rgb.width, rgb.height)));
    }

    /// Width and height of the smallest and the largest picture (by area), if there was one.
    pub(super) fn ends(&self) -> Option<[(u32, u32); 2]> {
        let area = |size: &&(u32, u32)| u64::from(size.0) * u64::from(size.1);
        let least = self.0.iter().min_by_key(area)?;
        let most = self.0.iter().max_by_key(area)?;
        Some([*least, *most])
    }
}

/// So many pictures.
pub(super) fn count(pictures: u64) -> String {
    format!("{pictures} picture{}", if pictures == 1 { "" } else { "s" })
}

/// These two in words.
pub(super) struct SizesText<'a>(pub(super) &'a [(u32, u32); 2]);

impl fmt::Display for SizesText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(width, height), most] = *self.0;
        write!(f, "of {width} x {height}")?;
        if most != (width, height) {
            write!(f, " to {} x {}", most.0, most.1)?;
        }
        Ok(())
    }
}
