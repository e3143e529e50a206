//! Pictures as networks that learn from tokens see them.

use candle_core::{Device, Tensor};
use vqlc_ops::tensor::upload;

use super::{Facts, look_up};
use crate::{Error, Result, tokens::TokenSet};

/// Some pictures to learn from, on the device.
#[derive(Clone, Debug)]
pub struct Examples {
    /// What they are.
    pub inputs: Inputs,
    /// The class of each; `None` where it has none.
    pub labels: Vec<Option<u32>>,
}

/// What a network sees of pictures.
#[derive(Clone, Debug)]
pub enum Inputs {
    /// Token ids `[b, rows * cols]`, u32, row-major.
    Ids(Tensor),
    /// Latents `[b, dim, rows, cols]`, f32, before quantisation.
    Latents(Tensor),
}

impl Examples {
    /// Of ids `[labels, rows * cols]`.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn of_ids(ids: &[u32], labels: Vec<Option<u32>>, device: &Device) -> Result<Self> {
        let count = labels.len().max(1);
        let ids = upload(ids, (count, ids.len() / count), device)?;
        Ok(Self {
            inputs: Inputs::Ids(ids),
            labels,
        })
    }

    /// Pictures in it.
    pub fn count(&self) -> usize {
        self.labels.len()
    }

    /// Ids `[b, rows * cols]`.
    ///
    /// # Errors
    /// [`Error::Config`] where there are only latents.
    pub fn ids(&self) -> Result<&Tensor> {
        match &self.inputs {
            Inputs::Ids(ids) => Ok(ids),
            Inputs::Latents(_) => Err(Error::Config("there are latents, no ids".into())),
        }
    }
}

impl Inputs {
    /// Latents `[b, dim, rows, cols]`, those of ids looked up in `entries` `[codes, dim]`.
    pub(crate) fn latents(&self, entries: &Tensor, facts: &Facts) -> candle_core::Result<Tensor> {
        match self {
            Self::Ids(ids) => look_up(entries, ids, facts),
            Self::Latents(latents) => Ok(latents.clone()),
        }
    }
}

/// Walks through token files once, picture by picture in their order, first views, `batch` at a time.
///
/// # Errors
/// What the files or `look` report.
pub fn each_batch(
    set: &TokenSet,
    batch: usize,
    labels: bool,
    device: &Device,
    mut look: impl FnMut(Examples) -> Result<()>,
) -> Result<()> {
    let pictures: Vec<u64> = (0..set.pictures()).collect();
    for chunk in pictures.chunks(batch.max(1)) {
        let records: Vec<(u64, u32)> = chunk.iter().map(|&picture| (picture, 0)).collect();
        let mut ids = vec![0; records.len() * set.ids()];
        set.gather(&records, &mut ids)?;
        let label = |&picture: &u64| match labels && set.classes().is_some() {
            true => set.label(picture),
            false => Ok(None),
        };
        let labels = chunk.iter().map(label).collect::<Result<_>>()?;
        look(Examples::of_ids(&ids, labels, device)?)?;
    }
    Ok(())
}
