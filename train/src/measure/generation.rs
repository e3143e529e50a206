//! Sets of pictures that have no pairs: what a generator made, beside pictures as they should be.

use std::fmt;

use serde::Serialize;

use super::{
    Cloud, FeatureNetwork, Judges, Keep, PictureSet, WeightsFile,
    evaluation::PROGRAM,
    sizes::{Sizes, SizesText, count},
};
use crate::{
    Error, Result,
    backbone::INCEPTION_CLASSES,
    data::printable,
    metrics::{
        NEIGHBOURS, SPLITS, Statistics, frechet_distance, inception_score, precision_recall,
    },
};

/// One side of a comparison of distributions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetFacts {
    /// Pictures looked at; unknown of a file of statistics that does not say.
    pub pictures: Option<u64>,
    /// Width and height of the smallest and the largest of them, pixels, where they were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<[(u32, u32); 2]>,
    /// How they were cut.
    pub prepared: String,
    /// What decoded them from ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Pictures left out, and why.
    pub left_out: Vec<String>,
}

/// What the networks saw in a set of pictures.
pub struct Gathered {
    /// What was looked at.
    pub facts: SetFacts,
    /// For each network.
    pub clouds: Vec<Cloud>,
}

/// Looks at every picture of `set` with every network of `judges`. `go_on` is told how many
/// pictures were looked at after each batch; where it answers no, the outcome is `None`.
///
/// # Errors
/// No networks, a set of fewer than two pictures that can be read; what reading and the networks meet.
pub fn gather(
    set: &mut dyn PictureSet,
    judges: &Judges,
    keep: Keep,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Gathered>> {
    let mut clouds = Cloud::all(judges, keep)?;
    if clouds.is_empty() {
        return Err(Error::Config(
            "no network is named to look at the pictures with".into(),
        ));
    }
    let mut pictures = 0;
    let mut sizes = Sizes::default();
    while let Some(batch) = set.next()? {
        if batch.is_empty() {
            continue;
        }
        sizes.add(&batch);
        for cloud in &mut clouds {
            cloud.add(judges, &batch)?;
        }
        pictures += batch.len() as u64;
        if !go_on(pictures) {
            return Ok(None);
        }
    }
    let left_out: Vec<String> = set.left_out().iter().map(ToString::to_string).collect();
    if pictures < 2 {
        let first = left_out
            .first()
            .map_or(String::new(), |reason| format!("; {reason}"));
        return Err(Error::Config(format!(
            "a distance takes two pictures at least, {pictures} could be measured{first}"
        )));
    }
    let facts = SetFacts {
        pictures: Some(pictures),
        sizes: sizes.ends(),
        prepared: set.prepared(),
        model: set.model(),
        left_out,
    };
    Ok(Some(Gathered { facts, clouds }))
}

impl Gathered {
    /// Mean and covariance of what the only network saw, to be written to a file.
    ///
    /// # Errors
    /// [`Error::Config`] for more networks than one; fewer than two pictures.
    pub fn statistics(&self, judges: &Judges) -> Result<Statistics> {
        let (network, weights) = only(judges)?;
        let cloud = self.clouds.iter().find(|cloud| cloud.network() == network);
        let cloud = cloud.ok_or_else(|| Error::Config("nothing was looked at with it".into()))?;
        Statistics::of(
            &cloud.moments,
            network.name(),
            weights,
            &self.facts.prepared,
        )
    }
}

/// The one network that makes features, and the digest of its weights.
fn only(judges: &Judges) -> Result<(FeatureNetwork, &str)> {
    let there = FeatureNetwork::ALL
        .into_iter()
        .filter(|network| judges.has(*network));
    match there.collect::<Vec<_>>()[..] {
        [network] => {
            let file = judges
                .used()
                .iter()
                .find(|file| file.network == network.name());
            Ok((network, file.map_or("", |file| file.sha256.as_str())))
        }
        _ => Err(Error::Config(
            "a file of statistics is of one network: name one".into(),
        )),
    }
}

/// What generated pictures are measured against.
pub enum Reference {
    /// Pictures that were looked at.
    Pictures(Gathered),
    /// Mean and covariance out of a file.
    Statistics(Box<Statistics>),
}

/// How near a set of pictures comes to another. What was not asked for or cannot be had is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GenerationFigures {
    /// Fréchet distance on FID's Inception (Heusel et al. 2017).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fid: Option<f64>,
    /// Inception Score of the made pictures (Salimans et al. 2016), mean over ten parts, of ten pictures or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inception_score: Option<f64>,
    /// Standard deviation over the parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inception_score_deviation: Option<f64>,
    /// Share of the made pictures that lie among the reference's (Kynkäänniemi et al. 2019), on Inception.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Share of the reference's pictures that lie among the made ones, on Inception.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// Fréchet distance on EfficientNet-Lite0; not an FID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd_efflite0: Option<f64>,
    /// As `precision`, on EfficientNet-Lite0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision_efflite0: Option<f64>,
    /// As `recall`, on EfficientNet-Lite0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_efflite0: Option<f64>,
}

/// Figures and how they came about.
#[derive(Clone, Debug, Serialize)]
pub struct Generation {
    /// The figures.
    #[serde(flatten)]
    pub figures: GenerationFigures,
    /// The pictures measured.
    pub made: SetFacts,
    /// The pictures they were measured against.
    pub reference: SetFacts,
    /// The weights of the networks that looked.
    pub weights: Vec<WeightsFile>,
    /// The rules by which the figures there are were computed, the weights and the program, in one line.
    pub protocol: String,
}

impl Generation {
    /// Measures `made` against `reference`; precision and recall where the features of both were kept.
    ///
    /// # Errors
    /// Statistics of another network or other weights; fewer than two pictures on a side.
    pub fn new(made: &Gathered, reference: &Reference, judges: &Judges) -> Result<Self> {
        let mut figures = GenerationFigures::default();
        let facts = match reference {
            Reference::Pictures(reference) => {
                for (a, b) in made.clouds.iter().zip(&reference.clouds) {
                    figures.put(a, frechet_distance(&a.moments, &b.moments)?);
                    figures.neighbours(a, b)?;
                }
                reference.facts.clone()
            }
            Reference::Statistics(statistics) => {
                let facts = known(statistics, judges)?;
                for cloud in &made.clouds {
                    figures.put(
                        cloud,
                        frechet_distance(&cloud.moments, statistics.as_ref())?,
                    );
                }
                facts
            }
        };
        for cloud in &made.clouds {
            if cloud.logits.len() >= SPLITS * INCEPTION_CLASSES {
                let score = inception_score(&cloud.logits, INCEPTION_CLASSES, SPLITS)?;
                figures.inception_score = Some(score.mean);
                figures.inception_score_deviation = Some(score.deviation);
            }
        }
        Ok(Self {
            protocol: figures.protocol(judges.used()),
            figures,
            made: made.facts.clone(),
            reference: facts,
            weights: judges.used().to_vec(),
        })
    }

    /// The figures as lines of text, the protocol last.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| text += &format!("{name:<21}{value}\n");
        let figures = &self.figures;
        for (name, value, digits) in [
            ("FID", figures.fid, 3),
            ("precision", figures.precision, 4),
            ("recall", figures.recall, 4),
            ("FD-EffLite0", figures.fd_efflite0, 1),
            ("precision EffLite0", figures.precision_efflite0, 4),
            ("recall EffLite0", figures.recall_efflite0, 4),
        ] {
            if let Some(value) = value {
                line(name, &format!("{value:.digits$}"));
            }
        }
        let few = self
            .made
            .pictures
            .is_some_and(|pictures| pictures < SPLITS as u64);
        if figures.fid.is_some() && few {
            line(
                "Inception Score",
                &format!("takes {SPLITS} pictures at least"),
            );
        }
        if let (Some(mean), Some(deviation)) =
            (figures.inception_score, figures.inception_score_deviation)
        {
            line("Inception Score", &format!("{mean:.3} +- {deviation:.3}"));
        }
        for (name, side) in [("made", &self.made), ("reference", &self.reference)] {
            line(name, &side.to_string());
            for reason in &side.left_out {
                line("left out", reason);
            }
        }
        line("protocol", &self.protocol);
        text
    }
}

impl fmt::Display for SetFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pictures {
            Some(pictures) => f.write_str(&count(pictures))?,
            None => write!(f, "an unknown number of pictures")?,
        }
        if let Some(sizes) = &self.sizes {
            write!(f, " {}", SizesText(sizes))?;
        }
        // Out of a file that anyone may have made.
        write!(f, "; {}", printable(&self.prepared))?;
        match &self.model {
            Some(model) => write!(f, "; model {model}"),
            None => Ok(()),
        }
    }
}

impl GenerationFigures {
    /// How those that there are came about.
    fn protocol(&self, weights: &[WeightsFile]) -> String {
        let rules = [
            (
                self.fid,
                "FID on pool3 of pictures resized to 299 x 299, bilinear, not antialiased"
                    .to_owned(),
            ),
            (
                self.fd_efflite0,
                "FD-EffLite0 on the last block group of pictures resized to 224 x 224, bicubic"
                    .to_owned(),
            ),
            (
                self.precision.or(self.precision_efflite0),
                format!("precision and recall by {NEIGHBOURS} neighbours"),
            ),
            (
                self.inception_score,
                format!(
                    "Inception Score without the classifier's bias, {SPLITS} parts dealt out as torch-fidelity does"
                ),
            ),
        ];
        let rules = rules
            .into_iter()
            .filter_map(|(there, rule)| there.map(|_| rule));
        let said = ["8-bit RGB".to_owned()].into_iter().chain(rules);
        let said = said.chain(weights.iter().map(ToString::to_string));
        said.chain([PROGRAM.to_owned()])
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn put(&mut self, of: &Cloud, distance: f64) {
        match of.network() {
            FeatureNetwork::Inception => self.fid = Some(distance),
            FeatureNetwork::EfficientNet => self.fd_efflite0 = Some(distance),
        }
    }

    /// Precision and recall, where both sides kept their features and have enough of them.
    fn neighbours(&mut self, made: &Cloud, reference: &Cloud) -> Result<()> {
        let dims = made.network().dims();
        let few = |cloud: &Cloud| cloud.features.len() / dims <= NEIGHBOURS;
        if few(made) || few(reference) {
            return Ok(());
        }
        let found = precision_recall(&reference.features, &made.features, dims, NEIGHBOURS)?;
        let (precision, recall) = match made.network() {
            FeatureNetwork::Inception => (&mut self.precision, &mut self.recall),
            FeatureNetwork::EfficientNet => {
                (&mut self.precision_efflite0, &mut self.recall_efflite0)
            }
        };
        (*precision, *recall) = (Some(found.precision), Some(found.recall));
        Ok(())
    }
}

/// What a file of statistics says of itself.
///
/// # Errors
/// [`Error::Config`] unless `judges` hold one network; [`Error::Argument`] for statistics of another network, or of other weights.
pub fn known(statistics: &Statistics, judges: &Judges) -> Result<SetFacts> {
    let (network, weights) = only(judges)?;
    if statistics.features() != network.dims() {
        return Err(Error::Argument {
            what: "the statistics' features",
            expected: format!("{} of {}", network.dims(), network.name()),
            found: statistics.features().to_string(),
        });
    }
    let mut facts = SetFacts {
        pictures: None,
        sizes: None,
        prepared: "statistics of a file that does not say of what".to_owned(),
        model: None,
        left_out: Vec::new(),
    };
    if let Some(told) = statistics.provenance() {
        // How the pictures were cut is for the reader to judge: samples have no crop.
        statistics.expect(network.name(), weights, &told.protocol)?;
        facts.pictures = Some(told.count);
        facts.prepared.clone_from(&told.protocol);
    }
    Ok(facts)
}
