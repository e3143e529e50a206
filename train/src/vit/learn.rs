//! The ViT as a system that learns classes from token files.

use candle_core::{D, Device, Result as TensorResult, Tensor};
use candle_nn::{Init, VarBuilder, ops::log_softmax};
use vqlc_model::{Tokenizer, params::Tensors, rng::Rng};

use super::{Vit, VitConfig, layer_of, mix::Mix, take_up};
use crate::{
    Error, Result,
    learn::{
        Examples, Facts, Figures, Request, Sampling, Setting, System, VitInput, VitSection, look_up,
    },
    optim::Share,
};

/// A ViT, and how it learns.
pub struct Learner {
    vit: Vit,
    /// What ids are looked up in, `[codes, channels]`: learned, or the codebook over its scale.
    entries: Tensor,
    section: VitSection,
    facts: Facts,
}

/// The network's sizes for a section and the tokens.
fn sizes(section: &VitSection, facts: &Facts, channels: usize) -> VitConfig {
    VitConfig {
        channels,
        rows: facts.rows as usize,
        cols: facts.cols as usize,
        patch: section.patch,
        classes: facts.classes.len(),
        width: section.width,
        layers: section.layers,
        heads: section.heads,
    }
}

impl Learner {
    /// Builds it from the parameters that `vb` gives.
    ///
    /// # Errors
    /// Tokens without classes; a scale that is missing; as [`Vit::new`].
    pub fn new(section: &VitSection, setting: &Setting, vb: &VarBuilder) -> TensorResult<Self> {
        let facts = setting.facts.clone();
        if facts.classes.is_empty() {
            candle_core::bail!(
                "a vit tells classes, and these tokens have none: compress folders named by class, and set data.labels"
            );
        }
        let entries = match section.input {
            VitInput::Codebook => {
                let (codebook, scale) = setting.latents()?;
                codebook.broadcast_div(&scale)?
            }
            VitInput::Learnt => {
                let shape = (facts.codes as usize, section.channels);
                let init = Init::Randn {
                    mean: 0.0,
                    stdev: 1.0,
                };
                vb.get_with_hints(shape, "tok_emb.weight", init)?
            }
        };
        let config = sizes(section, &facts, entries.dim(1)?);
        Ok(Self {
            vit: Vit::new(config, vb)?,
            entries,
            section: section.clone(),
            facts,
        })
    }

    /// The class of each picture `[b]`.
    fn labels(&self, examples: &Examples, device: &Device) -> Result<Tensor> {
        let labels: Option<Vec<u32>> = examples.labels.iter().copied().collect();
        let labels = labels.ok_or_else(|| {
            Error::Config("a picture has no class: a vit learns from labelled pictures only".into())
        })?;
        Ok(Tensor::from_vec(labels, examples.count(), device)?)
    }

    fn maps(&self, examples: &Examples) -> Result<Tensor> {
        Ok(look_up(&self.entries, examples.ids()?, &self.facts)?)
    }
}

/// The mean cross-entropy of `logs` `[b, classes]` (log-probabilities) with `labels` `[b]`, of which `smoothing` is spread over all classes.
fn cross_entropy(logs: &Tensor, labels: &Tensor, smoothing: f64) -> TensorResult<Tensor> {
    let hit = logs.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?;
    if smoothing == 0.0 {
        return hit.neg();
    }
    (hit * (smoothing - 1.0))? - (logs.mean_all()? * smoothing)?
}

impl System for Learner {
    fn loss(&self, examples: &Examples, draws: &mut Rng) -> Result<Tensor> {
        let maps = self.maps(examples)?;
        let labels = self.labels(examples, maps.device())?;
        let VitSection {
            mixup,
            cutmix,
            smoothing,
            ..
        } = self.section;
        let mix = Mix::draw(mixup, cutmix, &self.facts, draws);
        let logs = log_softmax(&self.vit.logits(&mix.maps(&maps)?)?, D::Minus1)?;
        let loss = cross_entropy(&logs, &labels, smoothing)?;
        Ok(match mix.own() {
            1.0 => loss,
            own => {
                let other = cross_entropy(&logs, &labels.flip(&[0])?, smoothing)?;
                ((loss * own)? + (other * (1.0 - own))?)?
            }
        })
    }

    fn measure(&self, examples: &Examples, _: &mut Rng) -> Result<Figures> {
        let maps = self.maps(examples)?;
        let labels = self.labels(examples, maps.device())?;
        let logs = log_softmax(&self.vit.logits(&maps)?, D::Minus1)?;
        let loss = cross_entropy(&logs, &labels, 0.0)?.to_scalar::<f32>()?;
        let (logs, labels) = (logs.to_vec2::<f32>()?, labels.to_vec1::<u32>()?);
        // How many classes come before the right one: of two equals the lower does, and what is not a number is never right.
        let ranks = logs.iter().zip(&labels).map(|(logs, &label)| {
            let own = logs[label as usize];
            let before = |&(at, &x): &(usize, &f32)| {
                let behind = x < own || x == own && at > label as usize;
                at != label as usize && !behind
            };
            logs.iter().enumerate().filter(before).count()
        });
        let ranks: Vec<usize> = ranks.collect();
        let among = |first: usize| {
            let hits = ranks.iter().filter(|&&rank| rank < first).count();
            hits as f64 / ranks.len().max(1) as f64
        };
        Ok(Figures::from([
            ("loss", f64::from(loss)),
            ("top1", among(1)),
            ("top5", among(5)),
        ]))
    }

    fn share(&self, name: &str, rank: usize) -> Share {
        let layers = self.section.layers;
        // Vectors of ids are the very first layer.
        let layer = match name {
            "tok_emb.weight" => 0,
            _ => layer_of(name, layers),
        };
        Share {
            rate: self.section.layer_decay.powi((layers + 1 - layer) as i32),
            decays: rank > 1 && !["cls_token", "pos_embed"].contains(&name),
        }
    }

    fn sampling(&self) -> Option<Sampling> {
        None
    }

    fn check(&self, _: &Sampling) -> Result<()> {
        Err(Error::Config("a vit makes no pictures".into()))
    }

    fn sample(&self, request: &Request, _: &Tokenizer) -> Result<Vec<u32>> {
        self.check(&request.how).map(|()| Vec::new())
    }
}

/// Puts pretrained weights, where the section names any, in place of drawn ones.
pub(crate) fn start_pretrained(
    section: &VitSection,
    setting: &Setting,
    drawn: &mut Tensors,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    const ENTRIES: &str = "tok_emb.weight";
    let Some(path) = &section.weights else {
        return Ok(());
    };
    let mut own = drawn.clone();
    let entries = own.remove(ENTRIES);
    let channels = match (&entries, &setting.scale) {
        (Some(entries), _) => entries.dim(1)?,
        (None, scale) => scale.as_ref().map_or(section.channels, Vec::len),
    };
    let taken = take_up(&sizes(section, &setting.facts, channels), own, path)?;
    note(&format!(
        "weights of {}, but for {}",
        path.display(),
        taken.drawn.join(", ")
    ));
    *drawn = taken.parameters;
    drawn.extend(entries.map(|entries| (ENTRIES.to_owned(), entries)));
    Ok(())
}
