//! Where examples come from: token files, or pictures whose latents are computed as they are needed.

use std::{ffi::OsStr, sync::Arc, time::Duration};

use candle_core::Device;
use serde::{Deserialize, Serialize};
use vqlc_format::{Digest, order::Shard};
use vqlc_model::Tokenizer;
use vqlc_ops::tensor::upload;

use super::{Examples, Facts, Inputs, LearnConfig, ViewsSection};
use crate::{
    Error, Result,
    data::{
        Augment, DEFAULT_CACHE_BYTES, Loader, LoaderOptions, Order, Pictures, Source, class_of,
    },
    tokens::{TokenLoader, TokenOptions, TokenPosition, TokenSet, ViewChoice},
};

/// Batches made ready ahead of the one asked for.
const AHEAD: usize = 4;

/// Deals out the examples of a run.
pub(super) enum Feed {
    Tokens {
        loader: TokenLoader,
        labels: bool,
    },
    Pictures {
        loader: Loader,
        source: Arc<Source>,
        labels: Vec<Option<u32>>,
        tokenizer: Arc<Tokenizer>,
        position: PicturePosition,
    },
}

/// Where a run stands in its data: kept in checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Position {
    Tokens(TokenPosition),
    Pictures(PicturePosition),
}

/// Where a run stands in a folder of pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PicturePosition {
    /// Of the names and lengths of the pictures, hexadecimal.
    pictures: String,
    seed: u64,
    batch: usize,
    /// Batches taken.
    batches: u64,
}

/// What a run learns from, before it begins.
pub(super) enum Data {
    Tokens(Arc<TokenSet>),
    Pictures {
        source: Arc<Source>,
        /// Of each picture.
        labels: Vec<Option<u32>>,
    },
}

impl Data {
    /// Opens what `config` names, and says what it is.
    pub(super) fn open(config: &LearnConfig, tokenizer: &Tokenizer) -> Result<(Self, Facts)> {
        let data = &config.data;
        let Some(images) = &data.images else {
            if data.tokens.is_empty() {
                return Err(Error::Config(
                    "data.tokens is missing: name the token files to learn from".into(),
                ));
            }
            let set = TokenSet::open(&data.tokens)?;
            let facts = Facts::of_tokens(&set, data.labels)?;
            return Ok((Self::Tokens(Arc::new(set)), facts));
        };
        let pictures = Pictures::scan(images, true)?;
        let (classes, labels) = match data.labels {
            true => folders(&pictures)?,
            false => (Vec::new(), vec![None; pictures.count()]),
        };
        let facts = Facts::of_pictures(tokenizer, data.size, classes)?;
        let source = Source::new(pictures, DEFAULT_CACHE_BYTES);
        Ok((Self::Pictures { source, labels }, facts))
    }

    /// Starts dealing them out: at the beginning, or where a checkpoint was written.
    pub(super) fn feed(
        &self,
        config: &LearnConfig,
        tokenizer: &Arc<Tokenizer>,
        from: Option<&Position>,
    ) -> Result<Feed> {
        match (self, from) {
            (Self::Tokens(set), None | Some(Position::Tokens(_))) => {
                let options = TokenOptions {
                    batch: config.run.batch,
                    seed: config.run.seed,
                    shard: Shard::whole(),
                    views: match config.data.views {
                        ViewsSection::Drawn => ViewChoice::Drawn,
                        ViewsSection::First => ViewChoice::Always(0),
                    },
                    whole_batches: true,
                    ahead: AHEAD,
                    threads: rayon::current_num_threads().min(AHEAD),
                };
                let from = from.and_then(|from| match from {
                    Position::Tokens(position) => Some(position),
                    Position::Pictures(_) => None,
                });
                Ok(Feed::Tokens {
                    loader: TokenLoader::start(set, options, from)?,
                    labels: config.data.labels,
                })
            }
            (Self::Pictures { source, labels }, None | Some(Position::Pictures(_))) => {
                let now = PicturePosition {
                    pictures: Digest(source.pictures().digest()).to_string(),
                    seed: config.run.seed,
                    batch: config.run.batch,
                    batches: 0,
                };
                let position = match from {
                    Some(Position::Pictures(position)) => position.clone(),
                    _ => now.clone(),
                };
                position.expect(&now, source.pictures())?;
                let options = LoaderOptions {
                    size: config.data.size as u32,
                    batch: config.run.batch,
                    order: Order::Shuffled {
                        seed: config.run.seed,
                        augment: Augment::default(),
                    },
                    threads: rayon::current_num_threads(),
                    ahead: AHEAD,
                };
                Ok(Feed::Pictures {
                    loader: Loader::start(source, options, position.batches)?,
                    source: source.clone(),
                    labels: labels.clone(),
                    tokenizer: tokenizer.clone(),
                    position,
                })
            }
            (Self::Tokens(_), Some(_)) => Err(Error::Config(
                "the run to go on with was trained on pictures, not on token files".into(),
            )),
            (Self::Pictures { .. }, Some(_)) => Err(Error::Config(
                "the run to go on with was trained on token files, not on pictures".into(),
            )),
        }
    }
}

impl PicturePosition {
    /// Refuses what would make the run go on with other pictures than it would have come to.
    fn expect(&self, now: &Self, pictures: &Pictures) -> Result<()> {
        if self.pictures != now.pictures {
            let why = "its pictures are not those that the run to go on with was trained on";
            return Err(Error::malformed(pictures.folder(), why));
        }
        if (self.seed, self.batch) != (now.seed, now.batch) {
            return Err(Error::Config(format!(
                "run.seed is {} and run.batch {}, those of the run to go on with {} and {}",
                now.seed, now.batch, self.seed, self.batch
            )));
        }
        Ok(())
    }
}

impl Feed {
    /// The next examples.
    pub(super) fn next(&mut self, device: &Device) -> Result<Examples> {
        match self {
            Self::Tokens { loader, labels } => {
                let batch = loader.next_batch()?;
                let labels = match labels {
                    true => batch.labels.clone(),
                    false => vec![None; batch.labels.len()],
                };
                Examples::of_ids(&batch.ids, labels, device)
            }
            Self::Pictures {
                loader,
                source,
                labels,
                tokenizer,
                position,
            } => {
                let folder = source.pictures().folder();
                let ended = || Error::malformed(folder, "its pictures have come to an end");
                let batch = loader.next().ok_or_else(ended)??;
                let shape = (batch.pictures.len(), 3, batch.size, batch.size);
                let pixels = upload(batch.pixels, shape, tokenizer.device())?;
                let latents = tokenizer.latent(&pixels)?.detach().to_device(device)?;
                let labels = batch.pictures.iter().map(|&picture| labels[picture]);
                position.batches += 1;
                Ok(Examples {
                    inputs: Inputs::Latents(latents),
                    labels: labels.collect(),
                })
            }
        }
    }

    /// The time spent waiting so far.
    pub(super) fn waited(&self) -> Duration {
        match self {
            Self::Tokens { loader, .. } => loader.waited(),
            Self::Pictures { loader, .. } => loader.waited(),
        }
    }

    /// Where the run stands.
    pub(super) fn position(&self) -> Position {
        match self {
            Self::Tokens { loader, .. } => Position::Tokens(loader.position().clone()),
            Self::Pictures { position, .. } => Position::Pictures(position.clone()),
        }
    }

    /// The epoch of the last batch of token files.
    pub(super) fn epoch(&self) -> Option<u64> {
        match self {
            Self::Tokens { loader, .. } => Some(loader.position().epoch),
            Self::Pictures { .. } => None,
        }
    }

    /// Pictures that could not be read.
    pub(super) fn skipped(&self) -> Vec<String> {
        match self {
            Self::Tokens { .. } => Vec::new(),
            Self::Pictures { source, .. } => {
                source.skipped().iter().map(ToString::to_string).collect()
            }
        }
    }
}

/// Names of the classes, sorted by bytes, and the class of each picture.
fn folders(pictures: &Pictures) -> Result<(Vec<String>, Vec<Option<u32>>)> {
    let of = |index: usize| {
        let parts = pictures.name(index).iter().map(OsStr::as_encoded_bytes);
        let path = parts.collect::<Vec<_>>().join(&b'/');
        class_of(&path).map(<[u8]>::to_vec)
    };
    let of_each: Vec<_> = (0..pictures.count()).map(of).collect();
    let mut classes: Vec<&Vec<u8>> = of_each.iter().flatten().collect();
    classes.sort_unstable();
    classes.dedup();
    let label = |class: &Option<Vec<u8>>| {
        let at = classes.binary_search(&class.as_ref()?).ok()?;
        Some(at as u32)
    };
    let labels = of_each.iter().map(label).collect();
    let name = |name: &&Vec<u8>| String::from_utf8(name.to_vec());
    let names = classes.iter().map(name).collect::<Result<_, _>>();
    let odd = |_| Error::malformed(pictures.folder(), "the name of a folder is not UTF-8");
    Ok((names.map_err(odd)?, labels))
}
