//! DiT, SiT and the UNet of latent diffusion as systems that learn on latents.

use candle_core::{Device, Result as TensorResult, Tensor};
use candle_nn::VarBuilder;
use vqlc_model::{Tokenizer, rng::Rng};

use super::{Denoiser, NoiseSchedule, Sampler, Sampling, ddpm::STEPS, flow, sample};
use crate::{
    Error, Result,
    dit::{Dit, DitConfig, WAVES},
    learn::{
        DitSection, Examples, Facts, Figures, Inputs, ModelSection, Request, Sampling as Way,
        Setting, System, check_class,
    },
    unet::Unet,
};

/// A network that takes noise from latents, and how it learns.
pub struct Learner {
    network: Box<dyn Denoiser + Send + Sync>,
    process: Process,
    class_dropout: f64,
    /// How it samples unless told otherwise.
    sampling: Sampling,
    /// B' `[codes, dim]`.
    codebook: Tensor,
    /// What latents are divided by, `[1, dim, 1, 1]`.
    scale: Tensor,
    facts: Facts,
}

/// How noise is added.
enum Process {
    /// In a thousand steps; the network says what was added.
    Steps(NoiseSchedule),
    /// On a straight way; the network says where it leads.
    Flow,
}

impl Learner {
    /// Builds it from the parameters that `vb` gives.
    ///
    /// # Errors
    /// A section of another kind; a scale that is missing; sizes that do not go together.
    pub fn new(section: &ModelSection, setting: &Setting, vb: &VarBuilder) -> TensorResult<Self> {
        let facts = setting.facts.clone();
        let (codebook, scale) = setting.latents()?;
        let channels = codebook.dim(1)?;
        let (rows, cols) = (facts.rows as usize, facts.cols as usize);
        let classes = facts.classes.len();
        let dit = |section: &DitSection| -> TensorResult<Box<dyn Denoiser + Send + Sync>> {
            let config = DitConfig {
                channels,
                rows,
                cols,
                patch: section.patch,
                classes,
                width: section.width,
                layers: section.layers,
                heads: section.heads,
                waves: WAVES,
            };
            Ok(Box::new(Dit::new(config, vb)?))
        };
        let (network, how) = match section {
            ModelSection::Dit(section) | ModelSection::Sit(section) => (
                dit(section)?,
                (
                    section.class_dropout,
                    section.guidance,
                    section.sampling_steps,
                ),
            ),
            ModelSection::Ldm(section) => {
                let config = section.sizes(channels, (rows, cols), classes);
                let network: Box<dyn Denoiser + Send + Sync> = Box::new(Unet::new(config, vb)?);
                let how = (
                    section.class_dropout,
                    section.guidance,
                    section.sampling_steps,
                );
                (network, how)
            }
            ModelSection::Gpt(_) | ModelSection::Vit(_) => {
                candle_core::bail!("{} takes no noise from latents", section.kind())
            }
        };
        let (class_dropout, guidance, steps) = how;
        let (process, sampler) = match section {
            ModelSection::Sit(_) => (Process::Flow, Sampler::Heun),
            _ => (Process::Steps(NoiseSchedule::linear()), Sampler::Ddim),
        };
        Ok(Self {
            network,
            process,
            class_dropout,
            sampling: Sampling {
                sampler,
                steps,
                eta: 0.0,
                guidance: if classes == 0 { 1.0 } else { guidance },
            },
            codebook,
            scale: scale.reshape((1, channels, 1, 1))?,
            facts,
        })
    }

    fn class(&self, class: Option<u32>) -> u32 {
        match class {
            Some(class) if (class as usize) < self.facts.classes.len() => class,
            _ => self.network.null(),
        }
    }

    /// How latents are sampled.
    fn way(&self, how: &Way) -> Result<Sampling> {
        let Way::Latents(how) = *how else {
            return Err(Error::Config("this network samples latents".into()));
        };
        let (expected, flows) = match self.process {
            Process::Steps(_) => ("ddim or ddpm", false),
            Process::Flow => ("heun or euler", true),
        };
        if flows != matches!(how.sampler, Sampler::Euler | Sampler::Heun) {
            return Err(Error::Argument {
                what: "sampler of what this network learned",
                expected: expected.into(),
                found: format!("{:?}", how.sampler).to_lowercase(),
            });
        }
        how.check()?;
        Ok(how)
    }

    /// The mean square of what the network gets wrong, with noise and times that are drawn.
    fn error(&self, inputs: &Inputs, classes: Vec<u32>, draws: &mut Rng) -> Result<Tensor> {
        let x = inputs.latents(&self.codebook, &self.facts)?;
        let x = x.broadcast_div(&self.scale)?;
        let rows = x.dim(0)?;
        let classes = Tensor::from_vec(classes, rows, x.device())?;
        let times: Vec<f64> = (0..rows).map(|_| draws.uniform()).collect();
        let noise = normal(x.dims(), std::slice::from_mut(draws), x.device())?;
        let network = self.network.as_ref();
        Ok(match &self.process {
            Process::Steps(schedule) => {
                let step = |t: f64| ((t * STEPS as f64) as u32).min(STEPS as u32 - 1);
                let steps: Vec<u32> = times.into_iter().map(step).collect();
                schedule.loss(network, &x, &noise, &steps, &classes)?
            }
            Process::Flow => {
                let times: Vec<f32> = times.into_iter().map(|t| t as f32).collect();
                flow::loss(network, &x, &noise, &times, &classes)?
            }
        })
    }
}

/// Standard normal numbers of `shape`, drawn from as many generators as there are rows, or from one for all of them.
fn normal(shape: &[usize], draws: &mut [Rng], device: &Device) -> TensorResult<Tensor> {
    let count: usize = shape.iter().product();
    let each = count / draws.len().max(1);
    let values: Vec<f32> = (draws.iter_mut())
        .flat_map(|draws| (0..each).map(|_| draws.normal() as f32).collect::<Vec<_>>())
        .collect();
    Tensor::from_vec(values, shape, device)
}

impl System for Learner {
    fn loss(&self, examples: &Examples, draws: &mut Rng) -> Result<Tensor> {
        let classes = (examples.labels.iter())
            .map(|&label| self.class(label.filter(|_| draws.uniform() >= self.class_dropout)))
            .collect();
        self.error(&examples.inputs, classes, draws)
    }

    fn measure(&self, examples: &Examples, draws: &mut Rng) -> Result<Figures> {
        let classes = examples.labels.iter().map(|&label| self.class(label));
        let loss = self.error(&examples.inputs, classes.collect(), draws)?;
        let loss = f64::from(loss.to_scalar::<f32>()?);
        Ok(Figures::from([("loss", loss)]))
    }

    fn sampling(&self) -> Option<Way> {
        Some(Way::Latents(self.sampling))
    }

    fn check(&self, how: &Way) -> Result<()> {
        self.way(how).map(drop)
    }

    fn sample(&self, request: &Request, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let how = self.way(&request.how)?;
        for &class in &request.classes {
            check_class(&self.facts, class)?;
        }
        let pictures = request.classes.len();
        let classes: Vec<u32> = request.classes.iter().map(|&c| self.class(c)).collect();
        let device = self.codebook.device();
        let classes = Tensor::from_vec(classes, pictures, device)?;
        let mut draws: Vec<Rng> = (0..pictures).map(|at| request.draws(at)).collect();
        let (rows, cols) = (self.facts.rows as usize, self.facts.cols as usize);
        let shape = [pictures, self.codebook.dim(1)?, rows, cols];
        let start = normal(&shape, &mut draws, device)?;
        let made = sample(self.network.as_ref(), &how, &start, &classes, |shape| {
            normal(shape, &mut draws, device)
        })?;
        let latents = made.broadcast_mul(&self.scale)?;
        Ok(tokenizer.quantize(&latents.to_device(tokenizer.device())?)?)
    }
}
