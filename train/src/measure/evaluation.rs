//! A tokenizer's, or any codec's, figures and how they came about.

use std::fmt;

use serde::Serialize;
use vqlc_format::pack::bits_for;

use super::{
    Comparer, Comparison, Judges, PairBatch, Pairs, PictureScores, WeightsFile,
    sizes::{SizesText, count},
};
use crate::{Error, Result, metrics::Usage};

/// How figures came about: without this they are of no use to anyone else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Protocol {
    /// Pictures compared.
    pub pictures: u64,
    /// Width and height of the smallest and the largest of them, pixels.
    pub sizes: [(u32, u32); 2],
    /// How both sides were cut.
    pub prepared: String,
    /// What made the pictures: a model's digests, or nothing for pictures that were there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The weights of the networks that judged.
    pub weights: Vec<WeightsFile>,
    /// The program.
    pub program: &'static str,
}

/// Name and version of the program, as a protocol says them.
pub(super) const PROGRAM: &str = concat!("vqlc ", env!("CARGO_PKG_VERSION"));

impl fmt::Display for Protocol {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", count(self.pictures), SizesText(&self.sizes))?;
        write!(
            f,
            "; {}; both sides 8-bit RGB; SSIM Gaussian 11 x 11, sigma 1.5, population covariance; luma BT.601, not rounded; means over pictures",
            self.prepared
        )?;
        if let Some(model) = &self.model {
            write!(f, "; model {model}")?;
        }
        for file in &self.weights {
            write!(f, "; {file}")?;
        }
        write!(f, "; {}", self.program)
    }
}

/// What became of pictures, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// How it came about.
    pub protocol: Protocol,
    /// The figures.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// How often each entry was chosen; of no entries where there are no tokens.
    #[serde(skip)]
    pub usage: Usage,
    /// Pictures that could not be measured.
    pub skipped: u64,
    /// Their names, and why.
    pub left_out: Vec<String>,
    /// Tokens of all pictures, where there are tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Different ids among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinct_ids: Option<u64>,
    /// Packed ids, `tokens` times ceil(log2 K) bits, for each pixel of the pictures measured; without the token file's other sections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_pixel: Option<f64>,
}

impl Evaluation {
    /// The figures as lines of text, the protocol last.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| text += &format!("{name:<14}{value}\n");
        for (name, value) in self.comparison.rows() {
            line(name, &value);
        }
        if let (Some(tokens), Some(distinct)) = (self.tokens, self.distinct_ids) {
            line(
                "ids",
                &format!("{distinct} different among {tokens} tokens"),
            );
        }
        if let Some(bits) = self.bits_per_pixel {
            line("rate", &format!("{bits:.4} bits a pixel"));
        }
        for name in &self.left_out {
            line("left out", name);
        }
        line("protocol", &self.protocol.to_string());
        text
    }
}

/// Measures all of `pairs`. `watch` sees every batch with its scores; where it answers no, the outcome is `None`.
///
/// # Errors
/// Pairs of which none can be measured; what reading, the networks and `watch` meet.
pub fn evaluate(
    pairs: &mut dyn Pairs,
    judges: &Judges,
    watch: &mut dyn FnMut(&PairBatch, &[PictureScores]) -> Result<bool>,
) -> Result<Option<Evaluation>> {
    let mut comparer = Comparer::new(judges)?;
    let (model, codes) = pairs.model().unzip();
    let mut usage = Usage::new(codes.unwrap_or(0) as usize);
    let mut pixels = 0;
    let mut too_small = Vec::new();
    while let Some(mut batch) = pairs.next()? {
        batch.take_out(judges.least_side(), &mut too_small);
        let scores = comparer.add(&batch.originals, &batch.made)?;
        for ids in &batch.ids {
            usage.add(ids)?;
        }
        pixels += batch
            .originals
            .iter()
            .map(|rgb| rgb.data.len() as u64 / 3)
            .sum::<u64>();
        if !watch(&batch, &scores)? {
            return Ok(None);
        }
    }
    let left_out = pairs.left_out().into_iter().chain(too_small);
    let left_out: Vec<String> = left_out.map(|one| one.to_string()).collect();
    let Some(sizes) = comparer.sizes() else {
        let first = left_out
            .first()
            .map_or("there are no pictures", String::as_str);
        return Err(Error::Config(format!("nothing could be measured; {first}")));
    };
    let comparison = comparer.finish()?;
    let bits = codes.map(|codes| usage.tokens() * u64::from(bits_for(codes)));
    Ok(Some(Evaluation {
        protocol: Protocol {
            pictures: comparison.pictures,
            sizes,
            prepared: pairs.prepared(),
            model,
            weights: judges.used().to_vec(),
            program: PROGRAM,
        },
        comparison,
        skipped: left_out.len() as u64,
        left_out,
        tokens: codes.map(|_| usage.tokens()),
        distinct_ids: codes.map(|_| usage.used() as u64),
        bits_per_pixel: bits.map(|bits| bits as f64 / pixels as f64),
        usage,
    }))
}
