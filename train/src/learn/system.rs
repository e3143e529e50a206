//! What the shared loop asks of a network.

use std::collections::BTreeMap;

use candle_core::Tensor;
use vqlc_model::{Tokenizer, params::Tensors, rng::Rng};

use super::{Examples, Facts, ModelSection};
use crate::{Error, Result, diffusion, gpt, optim::Share, vit};

/// Numbers by name.
pub type Figures = BTreeMap<&'static str, f64>;

/// Pictures to be sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The class of each; `None` for one without.
    pub classes: Vec<Option<u32>>,
    /// What all draws depend on, together with a picture's number.
    pub seed: u64,
    /// Number of the first picture: pictures do not depend on what else is sampled with them.
    pub first: u64,
    /// How.
    pub how: Sampling,
}

impl Request {
    /// The draws of picture `at` of this request.
    pub fn draws(&self, at: usize) -> Rng {
        let number = self.first + at as u64;
        let mixed = Rng::new(self.seed ^ 0x7361_6d70_6c65).next_u64();
        Rng::new(Rng::new(mixed.wrapping_add(number)).next_u64())
    }
}

/// How samples are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// Id by id.
    Ids(gpt::Choice),
    /// Latents out of noise.
    Latents(diffusion::Sampling),
}

/// A network, its loss, and what can be done with it.
pub trait System: Send + Sync {
    /// The loss of a batch, a scalar with a graph; `draws` depends on the run's seed, the step and the part alone.
    ///
    /// # Errors
    /// Examples that are not of its kind; a tensor operation's.
    fn loss(&self, examples: &Examples, draws: &mut Rng) -> Result<Tensor>;

    /// Its figures on held-out pictures, means over the batch, `loss` among them.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn measure(&self, examples: &Examples, draws: &mut Rng) -> Result<Figures>;

    /// A parameter's part in a step: vectors do not decay.
    fn share(&self, _name: &str, rank: usize) -> Share {
        Share {
            rate: 1.0,
            decays: rank > 1,
        }
    }

    /// How it samples unless told otherwise; `None` for what makes no pictures.
    fn sampling(&self) -> Option<Sampling>;

    /// Refuses a way to sample that is not this network's, or numbers out of their ranges.
    ///
    /// # Errors
    /// [`Error::Argument`].
    fn check(&self, how: &Sampling) -> Result<()>;

    /// Samples ids `[pictures, rows, cols]`.
    ///
    /// # Errors
    /// Those of [`Self::check`]; a way or a class that it does not know; a tensor operation's.
    fn sample(&self, request: &Request, tokenizer: &Tokenizer) -> Result<Vec<u32>>;
}

/// What a network is built with beside its section.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The tokens.
    pub facts: Facts,
    /// The projected codebook B' `[codes, dim]` on the device.
    pub codebook: Tensor,
    /// Per-channel standard deviation of the latents `[dim]`, for those that learn on them.
    pub scale: Option<Vec<f32>>,
}

/// Builds a network from the parameters that `vb` gives.
///
/// # Errors
/// What the builder says; a setting that lacks what the network needs.
pub fn build(
    section: &ModelSection,
    setting: &Setting,
    vb: &candle_nn::VarBuilder,
) -> candle_core::Result<Box<dyn System>> {
    Ok(match section {
        ModelSection::Gpt(section) => Box::new(gpt::Learner::new(section, setting, vb)?),
        ModelSection::Vit(section) => Box::new(vit::Learner::new(section, setting, vb)?),
        ModelSection::Dit(_) | ModelSection::Sit(_) | ModelSection::Ldm(_) => {
            Box::new(diffusion::Learner::new(section, setting, vb)?)
        }
    })
}

/// Changes freshly drawn parameters into those that a run starts from.
///
/// # Errors
/// Files that are not what they should be.
pub(super) fn prepare(
    section: &ModelSection,
    setting: &Setting,
    drawn: &mut Tensors,
    seed: u64,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    match section {
        ModelSection::Gpt(section) => gpt::start_from_codebook(section, setting, drawn, seed),
        ModelSection::Vit(section) => vit::start_pretrained(section, setting, drawn, note),
        ModelSection::Dit(_) | ModelSection::Sit(_) | ModelSection::Ldm(_) => Ok(()),
    }
}

impl Setting {
    /// B' `[codes, dim]` and the per-channel deviation `[dim]` of latents, for a network that takes them.
    pub(crate) fn latents(&self) -> candle_core::Result<(Tensor, Tensor)> {
        let Some(scale) = &self.scale else {
            candle_core::bail!("this network learns on latents, and their scale is missing");
        };
        let codebook = &self.codebook;
        if scale.len() != codebook.dim(1)? || !scale.iter().all(|s| *s > 0.0 && s.is_finite()) {
            candle_core::bail!(
                "{scale:?} is no scale of these latents: expected a positive number for each channel"
            );
        }
        let scale = Tensor::new(&scale[..], codebook.device())?;
        Ok((codebook.clone(), scale))
    }
}

/// z_q `[b, dim, rows, cols]` of ids `[b, rows * cols]`.
pub(crate) fn look_up(
    entries: &Tensor,
    ids: &Tensor,
    facts: &Facts,
) -> candle_core::Result<Tensor> {
    let (pictures, _) = ids.dims2()?;
    let (rows, cols) = (facts.rows as usize, facts.cols as usize);
    let found = entries.index_select(&ids.flatten_all()?, 0)?;
    let found = found.reshape((pictures, rows, cols, entries.dim(1)?))?;
    found.permute((0, 3, 1, 2))?.contiguous()
}

/// That a class is there.
pub(crate) fn check_class(facts: &Facts, class: Option<u32>) -> Result<()> {
    match class {
        Some(class) if class as usize >= facts.classes.len() => Err(Error::Argument {
            what: "class",
            expected: format!("below {}", facts.classes.len()),
            found: class.to_string(),
        }),
        _ => Ok(()),
    }
}
