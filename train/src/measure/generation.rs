//! Sets of pictures that have no pairs: what a generator made, beside pictures as they should be.

use std::fmt;

use serde::Serialize;

use super::{Cloud, FeatureNetwork, Judges, Keep, PictureSet, WeightsFile, evaluation::PROGRAM};
use crate::{
    Error, Result,
    backbone::INCEPTION_CLASSES,
    metrics::{
        NEIGHBOURS, SPLITS, Statistics, frechet_distance, inception_score, precision_recall,
    },
};

/// One side of a comparison of distributions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetFacts {
    /// Pictures looked at.
    pub pictures: u64,
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
/// No networks, a set of which no picture can be read; what reading and the networks meet.
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
    while let Some(batch) = set.next()? {
        for cloud in &mut clouds {
            cloud.add(judges, &batch)?;
        }
        pictures += batch.len() as u64;
        if !go_on(pictures) {
            return Ok(None);
        }
    }
    let left_out: Vec<String> = set.left_out().iter().map(ToString::to_string).collect();
    if pictures == 0 {
        let first = left_out
            .first()
            .map_or("there are no pictures", String::as_str);
        return Err(Error::Config(format!("nothing could be measured; {first}")));
    }
    let facts = SetFacts {
        pictures,
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
        let (cloud, weights) = only(&self.clouds, judges)?;
        let network = cloud.network().name();
        Statistics::of(&cloud.moments, network, weights, &self.facts.prepared)
    }
}

/// The one cloud, and the digest of its network's weights.
fn only<'a>(clouds: &'a [Cloud], judges: &'a Judges) -> Result<(&'a Cloud, &'a str)> {
    match clouds {
        [cloud] => {
            let name = cloud.network().name();
            let file = judges.used().iter().find(|file| file.network == name);
            Ok((cloud, file.map_or("", |file| file.sha256.as_str())))
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
    /// The program.
    pub program: &'static str,
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
                let (cloud, weights) = only(&made.clouds, judges)?;
                let facts = known(statistics, cloud.network(), weights)?;
                figures.put(
                    cloud,
                    frechet_distance(&cloud.moments, statistics.as_ref())?,
                );
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
            figures,
            made: made.facts.clone(),
            reference: facts,
            weights: judges.used().to_vec(),
            program: PROGRAM,
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
        let weights = self.weights.iter();
        let weights: Vec<String> = weights
            .map(|file| format!("{} weights {:.16}", file.network, file.sha256))
            .collect();
        line(
            "protocol",
            &format!("8-bit RGB; {}; {}", weights.join("; "), self.program),
        );
        text
    }
}

impl fmt::Display for SetFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pictures; {}", self.pictures, self.prepared)?;
        match &self.model {
            Some(model) => write!(f, "; model {model}"),
            None => Ok(()),
        }
    }
}

impl GenerationFigures {
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

/// What a file of statistics says of itself, which must not be of another network or of other weights.
fn known(statistics: &Statistics, network: FeatureNetwork, weights: &str) -> Result<SetFacts> {
    let Some(told) = statistics.provenance() else {
        return Ok(SetFacts {
            pictures: 0,
            prepared: "statistics of a file that does not say of what".to_owned(),
            model: None,
            left_out: Vec::new(),
        });
    };
    // How the pictures were cut is for the reader to judge: samples have no crop.
    statistics.expect(network.name(), weights, &told.protocol)?;
    Ok(SetFacts {
        pictures: told.count,
        prepared: told.protocol.clone(),
        model: None,
        left_out: Vec::new(),
    })
}
