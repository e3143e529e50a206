//! Codebooks: clustered patch features of a pretrained encoder (VQGAN-LC, arXiv 2406.11837, section 3.2).
//!
//! ```text
//! folder -> pictures, views -> backbone -> patch features (f16, within a budget) -> K-means or a draw -> B [N, D]
//! ```
//!
//! B is divided by one number, the standard deviation of all its entries, and rounded to f16. All of it is a function of the pictures, the
//! weights, the settings and the seed, whatever the number of threads.

mod features;
mod file;
mod kmeans;
mod state;

use std::path::Path;

use half::f16;
use sha2::{Digest as _, Sha256};
use vqlc_model::digest::hex;

pub use file::{Codebook, Provenance, Select};
pub use state::state_path;

use crate::{Error, Result, backbone::Backbone, data::Pictures};
use features::{Features, Sampling, extract, kept};
use kmeans::{Group, State};

/// Bytes of features that are kept unless another number is asked for: 4 GiB.
pub const DEFAULT_FEATURE_BUDGET: u64 = 4 << 30;

/// How a codebook is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Number of entries N.
    pub codes: usize,
    /// How entries are chosen.
    pub select: Select,
    /// Folders are classes, and each gets an equal share of the codes.
    pub per_class: bool,
    /// Side of the square that patches are averaged over; none for the backbone's own.
    pub pool: Option<usize>,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Most Lloyd iterations.
    pub iterations: u32,
    /// Views of each picture.
    pub views: u32,
    /// Bytes that features may take; of more, a seeded sample is kept.
    pub feature_budget: u64,
}

/// A K-means iteration that was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Iteration {
    /// From 1.
    pub number: u32,
    /// Sum of squared distances of features to the centres the iteration started with.
    pub inertia: f64,
    /// Features there are.
    pub features: u64,
    /// Those whose centre is another than before (all of them in the first iteration).
    pub moved: u64,
    /// Centres without features.
    pub empty: u64,
    /// Those of them that were moved to a feature far from its centre; the others found none and stayed.
    pub reseeded: u64,
}

/// Is told how far the work is, and may stop it.
pub trait Watch: Sync {
    /// `done` of `total` pictures have given their features.
    fn pictures(&self, done: u64, total: u64);
    /// A picture could not be read.
    fn unreadable(&self, name: &Path, why: &str);
    /// Of `all` features `kept` are kept.
    fn sampled(&self, all: u64, kept: u64);
    /// An iteration was made.
    fn iteration(&self, iteration: &Iteration);
    /// Whether to stop now.
    fn stop(&self) -> bool;
}

/// Makes a codebook of the pictures. After each K-means iteration the file `state` is written, and deleted at the end by the caller; with
/// `resume`, a state there is gone on from (features are taken anew, which gives the same ones). Returns `None` when told to stop.
///
/// # Errors
/// Settings that do not fit the backbone; fewer features than codes; a state of another job; the backbone's and the system's.
pub fn build(
    pictures: &Pictures,
    backbone: &Backbone,
    settings: &Settings,
    state: &Path,
    resume: bool,
    watch: &dyn Watch,
) -> Result<Option<Codebook>> {
    let card = backbone.kind().card();
    let pool = settings.pool.unwrap_or(card.pool);
    check(settings, card.grid, pool)?;
    let per_view = ((card.grid / pool) as u64).pow(2);
    let all_views = pictures.count() as u64 * u64::from(settings.views);
    let all = all_views * per_view;
    enough(settings, per_view, all, pictures.count() as u64)?;
    let room = kept(all_views, per_view, card.dim, settings.feature_budget);
    if room < settings.codes as u64 {
        return Err(Error::Argument {
            what: "feature budget",
            expected: format!(
                "at least {} bytes for {} codes",
                2 * card.dim * settings.codes,
                settings.codes
            ),
            found: settings.feature_budget.to_string(),
        });
    }
    watch.sampled(all, room);
    let sampling = Sampling {
        seed: settings.seed,
        views: settings.views,
        pool,
        budget: settings.feature_budget,
    };
    let Some(features) = extract(pictures, backbone, sampling, watch)? else {
        return Ok(None);
    };
    let groups = groups(pictures, &features, settings)?;
    let job = job(pictures, backbone, settings, pool);
    let mut at = if resume && state.exists() {
        let expected = (settings.codes, features.dim(), features.count());
        state::read(state, &job, expected)?
    } else {
        State::start(&features, &groups, settings.seed)?
    };
    if settings.select == Select::Kmeans {
        while at.iteration < settings.iterations && !at.settled {
            if watch.stop() {
                return Ok(None);
            }
            let made = at.iterate(&features, &groups, backbone.device())?;
            state::write(state, &job, &at, features.dim())?;
            watch.iteration(&made);
        }
    }
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").into(),
        backbone: card.name.into(),
        weights: backbone.digest().into(),
        pictures: hex(&pictures.digest()),
        picture_count: pictures.count() as u64,
        unreadable: features.unreadable(),
        select: settings.select,
        classes: settings.per_class.then_some(groups.len() as u64),
        seed: settings.seed,
        iterations: at.iteration,
        inertia: (at.iteration > 0).then_some(at.inertia),
        views: settings.views,
        pool: pool as u32,
        features: all,
        kept: features.count() as u64,
        scale: 1.0,
    };
    finish(at, features.dim(), provenance).map(Some)
}

/// As [`build`], into the file `output`. What the iterations left behind for a job that is stopped lies beside it, at [`state_path`], until
/// it is done.
///
/// # Errors
/// As [`build`]; a file that cannot be written.
pub fn make(
    pictures: &Pictures,
    backbone: &Backbone,
    settings: &Settings,
    output: &Path,
    resume: bool,
    watch: &dyn Watch,
) -> Result<Option<Codebook>> {
    let state = state_path(output);
    let built = build(pictures, backbone, settings, &state, resume, watch)?;
    if let Some(codebook) = &built {
        codebook.write(output)?;
        if state.exists() {
            std::fs::remove_file(&state).map_err(|e| Error::io(&state, e))?;
        }
    }
    Ok(built)
}

fn check(settings: &Settings, grid: usize, pool: usize) -> Result<()> {
    let refused = |why: String| Err(Error::Config(why));
    if settings.codes == 0 || settings.codes > vqlc_ops::MAX_ENTRIES {
        return refused(format!("a codebook of {} entries", settings.codes));
    }
    if settings.views == 0 || settings.iterations == 0 {
        return refused("at least one view and one iteration are needed".into());
    }
    if pool == 0 || !grid.is_multiple_of(pool) {
        return refused(format!(
            "{pool} x {pool} pooling does not divide the backbone's grid of {grid} x {grid} patches"
        ));
    }
    Ok(())
}

/// That there are as many features as codes, before any work is done.
fn enough(settings: &Settings, per_view: u64, all: u64, pictures: u64) -> Result<()> {
    let codes = settings.codes as u64;
    if all >= codes {
        return Ok(());
    }
    let of_picture = per_view * u64::from(settings.views);
    Err(Error::Argument {
        what: "features for the codebook",
        expected: format!(
            "at least {codes}: {} pictures with {} views of {per_view} patches each, or {} views of each picture",
            codes.div_ceil(of_picture),
            settings.views,
            codes.div_ceil(per_view * pictures.max(1)),
        ),
        found: format!("{all} of {pictures} pictures"),
    })
}

/// The classes, with their features and equal shares of the codes (the first ones have one more where they do not divide); one group for
/// everything without classes.
fn groups(pictures: &Pictures, features: &Features, settings: &Settings) -> Result<Vec<Group>> {
    if !settings.per_class {
        return Ok(vec![Group {
            name: String::new(),
            points: 0..features.count(),
            codes: 0..settings.codes,
        }]);
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut point = 0;
    for (index, count) in features.of_picture().iter().enumerate() {
        let name = pictures.name(index);
        let mut parts = name.components();
        let class = match (parts.next(), parts.next()) {
            (Some(class), Some(_)) => class.as_os_str().to_string_lossy().into_owned(),
            _ => {
                return Err(Error::Config(format!(
                    "{} lies in no folder, which would be its class",
                    name.display()
                )));
            }
        };
        // Sorted by bytes, all names that begin with "class/" are neighbours.
        let name = format!(" in class {class}");
        match groups.last_mut().filter(|group| group.name == name) {
            Some(group) => group.points.end += count,
            None => groups.push(Group {
                name,
                points: point..point + count,
                codes: 0..0,
            }),
        }
        point += count;
    }
    if settings.codes < groups.len() {
        return Err(Error::Config(format!(
            "{} codes for {} classes: each needs one",
            settings.codes,
            groups.len()
        )));
    }
    let (share, more) = (settings.codes / groups.len(), settings.codes % groups.len());
    let mut code = 0;
    for (number, group) in groups.iter_mut().enumerate() {
        let own = share + usize::from(number < more);
        group.codes = code..code + own;
        code += own;
    }
    Ok(groups)
}

/// What a state must agree in to be gone on from: everything but how many iterations there shall be.
fn job(pictures: &Pictures, backbone: &Backbone, settings: &Settings, pool: usize) -> String {
    let settings = Settings {
        iterations: 0,
        pool: Some(pool),
        ..*settings
    };
    let text = format!(
        "{settings:?} {} {} {}",
        backbone.kind(),
        backbone.digest(),
        hex(&pictures.digest())
    );
    hex(&Sha256::digest(text).into())
}

/// Divides the centres by their standard deviation and rounds them to f16.
fn finish(state: State, dim: usize, mut provenance: Provenance) -> Result<Codebook> {
    let count = state.centres.len().max(1) as f64;
    let mean = state.centres.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let squares = state.centres.iter().map(|&v| (f64::from(v) - mean).powi(2));
    let scale = (squares.sum::<f64>() / count).sqrt();
    // One entry, or all alike: nothing to bring to a scale.
    let scale = if scale > 0.0 { scale } else { 1.0 };
    provenance.scale = scale as f32;
    let entries = state
        .centres
        .iter()
        .map(|&v| f16::from_f64(f64::from(v) / scale).to_f32())
        .collect();
    Codebook::new(entries, dim, state.counts, Some(provenance))
}

#[cfg(test)]
mod tests;
