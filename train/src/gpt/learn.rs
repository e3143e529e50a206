//! The GPT as a system that learns from token files.

use candle_core::{DType, Device, Result as TensorResult, Tensor};
use candle_nn::VarBuilder;
use vqlc_model::{Tokenizer, params::Tensors, rng::Rng};

use super::{
    Choice, CrossEntropy, Embedding, Gpt, GptConfig, Work, draw_ids,
    network::{DEVIATION, unit_deviation},
};
use crate::{
    Error, Result,
    learn::{
        Examples, Facts, Figures, GptSection, Request, Sampling, Setting, System, check_class,
    },
    optim::Share,
};

/// A GPT, and how it learns.
pub struct Learner {
    gpt: Gpt,
    section: GptSection,
    facts: Facts,
    compute: DType,
}

impl Learner {
    /// Builds it from the parameters that `vb` gives.
    ///
    /// # Errors
    /// As [`Gpt::new`].
    pub fn new(section: &GptSection, setting: &Setting, vb: &VarBuilder) -> TensorResult<Self> {
        let facts = setting.facts.clone();
        let config = GptConfig {
            codes: facts.codes as usize,
            classes: facts.classes.len(),
            tokens: facts.ids(),
            width: section.width,
            layers: section.layers,
            heads: section.heads,
            embedding: section.embedding,
            tied: section.tied,
        };
        Ok(Self {
            gpt: Gpt::new(config, Some(&setting.codebook), vb)?,
            section: section.clone(),
            facts,
            compute: vb.dtype(),
        })
    }

    /// The token that stands for a class.
    fn class_token(&self, class: Option<u32>) -> u32 {
        match class {
            Some(class) if (class as usize) < self.facts.classes.len() => self.facts.codes + class,
            _ => self.gpt.config().null(),
        }
    }

    /// The mean cross-entropy of all ids (nats), each from the class and the ids before it; with a graph where it `learns`.
    fn cross_entropy(
        &self,
        ids: &Tensor,
        classes: Vec<u32>,
        smoothing: f64,
        learns: bool,
    ) -> Result<Tensor> {
        let (pictures, count) = ids.dims2()?;
        let classes = Tensor::from_vec(classes, (pictures, 1), ids.device())?;
        let tokens = match count {
            1 => classes,
            _ => Tensor::cat(&[&classes, &ids.narrow(1, 0, count - 1)?], 1)?,
        };
        let mut tables = self.gpt.tables()?;
        let mut hidden = self.gpt.hidden(&tables, &tokens)?.flatten_to(1)?;
        if !learns {
            (tables, hidden) = (tables.detach(), hidden.detach());
        }
        let how = CrossEntropy {
            over: Some(self.gpt.config().codes),
            smoothing,
            compute: self.compute,
        };
        Ok(how.loss(&hidden, &tables.head, &ids.flatten_all()?)?)
    }
}

impl System for Learner {
    fn loss(&self, examples: &Examples, draws: &mut Rng) -> Result<Tensor> {
        let hidden = |draws: &mut Rng| draws.uniform() < self.section.class_dropout;
        let classes = (examples.labels.iter())
            .map(|&label| self.class_token(label.filter(|_| !hidden(draws))))
            .collect();
        self.cross_entropy(examples.ids()?, classes, self.section.smoothing, true)
    }

    fn measure(&self, examples: &Examples, _: &mut Rng) -> Result<Figures> {
        let classes = examples.labels.iter().map(|&label| self.class_token(label));
        let loss = self.cross_entropy(examples.ids()?, classes.collect(), 0.0, false)?;
        let loss = f64::from(loss.to_scalar::<f32>()?);
        Ok(Figures::from([("loss", loss)]))
    }

    fn share(&self, name: &str, rank: usize) -> Share {
        let table = ["tok_emb.weight", "class_emb.weight", "pos_emb"].contains(&name);
        Share {
            rate: 1.0,
            decays: rank > 1 && !table,
        }
    }

    fn sampling(&self) -> Option<Sampling> {
        let codes = self.gpt.config().codes;
        let guidance = match self.facts.classes.is_empty() {
            true => 1.0,
            false => self.section.guidance,
        };
        Some(Sampling::Ids(Choice::of(codes, guidance)))
    }

    fn check(&self, how: &Sampling) -> Result<()> {
        choice(how).map(drop)
    }

    fn sample(&self, request: &Request, _: &Tokenizer) -> Result<Vec<u32>> {
        let choice = choice(&request.how)?;
        let pictures = request.classes.len();
        let mut first = Vec::with_capacity(pictures);
        for &class in &request.classes {
            check_class(&self.facts, class)?;
            first.push(self.class_token(class));
        }
        let mut draws: Vec<Rng> = (0..pictures).map(|at| request.draws(at)).collect();
        let count = self.facts.ids();
        draw_ids(&self.gpt, first, count, &choice, &mut draws, Work::Last)
    }
}

/// How ids are drawn.
fn choice(how: &Sampling) -> Result<Choice> {
    let refuse = |what, expected: &str, found: f64| {
        Err(Error::Argument {
            what,
            expected: expected.into(),
            found: found.to_string(),
        })
    };
    match *how {
        Sampling::Ids(choice) if !(0.0..f64::INFINITY).contains(&choice.temperature) => {
            refuse("temperature", "a number of at least 0", choice.temperature)
        }
        Sampling::Ids(choice) if !(choice.top_p > 0.0 && choice.top_p <= 1.0) => {
            refuse("top p", "above 0, at most 1", choice.top_p)
        }
        Sampling::Ids(choice) if !choice.guidance.is_finite() => {
            refuse("guidance", "a finite number", choice.guidance)
        }
        Sampling::Ids(choice) => Ok(choice),
        Sampling::Latents(_) => Err(Error::Config("a gpt samples id by id".into())),
    }
}

/// Lays the vectors of ids, where [`Embedding::Start`] asks for it, where the codebook's entries are.
pub(crate) fn start_from_codebook(
    section: &GptSection,
    setting: &Setting,
    drawn: &mut Tensors,
    seed: u64,
) -> Result<()> {
    const NAME: &str = "tok_emb.weight";
    if section.embedding != Embedding::Start {
        return Ok(());
    }
    let Some(table) = drawn.get(NAME) else {
        return Err(Error::Config(format!(
            "model.embedding is start: no {NAME}"
        )));
    };
    let entries = unit_deviation(&setting.codebook.to_device(&Device::Cpu)?)?;
    let (codes, dim) = entries.dims2()?;
    let mut rng = Rng::new(seed ^ 0x6c69_6674);
    let deviation = DEVIATION / (dim as f64).sqrt();
    let map: Vec<f32> = (0..dim * section.width)
        .map(|_| (deviation * rng.normal()) as f32)
        .collect();
    let lifted = entries.matmul(&Tensor::from_vec(map, (dim, section.width), &Device::Cpu)?)?;
    let others = table.narrow(0, codes, table.dim(0)? - codes)?;
    let table = Tensor::cat(&[&lifted, &others], 0)?;
    drawn.insert(NAME.into(), table);
    Ok(())
}
