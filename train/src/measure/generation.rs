//! Sets of pictures that have no pairs: what a generator made, beside pictures as they should be.

use std::fmt;

use serde::Serialize;

use super::{Cloud, FeatureNetwork, Judges, PROGRAM, PictureSet, WeightsFile};
use crate::{Error, Result, metrics::frechet_distance};

/// One side of a comparison of distributions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetFacts {
    /// Pictures looked at.
    pub pictures: u64,
    /// What they are and how they were cut.
    pub prepared: String,
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

/// Looks at every picture of `set` with every network of `judges`; `keep` keeps the features of every picture. `go_on` is told how many
/// pictures were looked at after each batch; where it answers no, the outcome is `None`.
///
/// # Errors
/// No networks, a set of which no picture can be read; what reading and the networks meet.
pub fn gather(
    set: &mut dyn PictureSet,
    judges: &Judges,
    keep: bool,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Gathered>> {
    let mut clouds = Cloud::all(judges, keep)?;
    if clouds.is_empty() {
        return Err(Error::Config("no network is named to look at the pictures with".into()));
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
        let first = left_out.first().map_or("there are no pictures", String::as_str);
        return Err(Error::Config(format!("nothing could be measured; {first}")));
    }
    let facts = SetFacts {
        pictures,
        prepared: set.prepared(),
        left_out,
    };
    Ok(Some(Gathered { facts, clouds }))
}
