//! Codebooks that rows start from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use candle_core::Device;
use sha2::{Digest as _, Sha256};
use vqlc_model::digest::hex;

use super::{Ablation, CodebookSpec, plan::images, record::Settings, settings::Digests};
use crate::{
    Error, Result,
    backbone::{Backbone, BackboneKind},
    codebook::{self, DEFAULT_FEATURE_BUDGET, Watch},
    data::Pictures,
};

/// A codebook that a row starts from.
#[derive(Clone)]
pub struct Book {
    pub(super) name: String,
    images: PathBuf,
    weights: PathBuf,
    backbone: BackboneKind,
    settings: codebook::Settings,
    path: PathBuf,
}

impl Book {
    /// Its file. The name holds a digest of what it is made with: changed settings are another file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many pictures it is made of.
    ///
    /// # Errors
    /// As [`Pictures::scan`].
    pub fn pictures(&self) -> Result<u64> {
        Ok(Pictures::scan(&self.images, true)?.count() as u64)
    }

    /// Makes the file; `None` when told to stop, then it goes on from there the next time.
    ///
    /// # Errors
    /// As [`codebook::make`].
    pub fn make(&self, device: &Device, watch: &dyn Watch) -> Result<Option<()>> {
        let pictures = Pictures::scan(&self.images, true)?;
        let backbone = Backbone::open(self.backbone, &self.weights, device)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let made = codebook::make(
            &pictures,
            &backbone,
            &self.settings,
            &self.path,
            true,
            watch,
        )?;
        Ok(made.map(drop))
    }
}

/// A codebook, and what decides its entries.
pub(super) fn planned(
    ablation: &Ablation,
    name: &str,
    out: &Path,
    digests: &mut Digests,
) -> Result<(Book, Settings)> {
    let spec: &CodebookSpec = &ablation.codebooks[name];
    let missing = |what: &str| Error::Config(format!("codebooks.{name}: {what}"));
    let folder = match &spec.images {
        Some(folder) => folder,
        None => images(ablation)?,
    };
    let judge = (ablation.data.weights.as_ref())
        .filter(|_| spec.backbone == BackboneKind::EfficientNetLite0);
    let weights = (spec.weights.as_ref().or(judge)).ok_or_else(|| {
        missing(&format!(
            "weights is missing: the file with those of {} (or data.weights, for EfficientNet-Lite0's)",
            spec.backbone
        ))
    })?;
    let card = spec.backbone.card();
    let settings = codebook::Settings {
        codes: spec.codes,
        select: spec.select,
        per_class: false,
        pool: spec.pool,
        seed: spec.seed,
        iterations: spec.iterations,
        views: spec.views,
        feature_budget: spec.features.map_or(DEFAULT_FEATURE_BUDGET, |features| {
            u64::from(features) * 2 * card.dim as u64
        }),
    };
    let text = [
        ("codes", spec.codes.to_string()),
        ("select", format!("{:?}", spec.select).to_lowercase()),
        ("iterations", spec.iterations.to_string()),
        ("views", spec.views.to_string()),
        ("pool", spec.pool.unwrap_or(card.pool).to_string()),
        (
            "features",
            spec.features.map_or("all".into(), |n| n.to_string()),
        ),
        ("seed", spec.seed.to_string()),
        ("backbone", card.name.into()),
        ("weights", digests.file(weights)?),
        ("pictures", digests.folder(folder)?.1),
    ];
    let recipe: Settings = text
        .into_iter()
        .map(|(key, value)| (format!("codebook's {key}"), value))
        .collect();
    let told = recipe.iter().map(|(key, value)| format!("{key}={value}\n"));
    let digest = hex(&Sha256::digest(told.collect::<String>()).into());
    let file = format!("{name}-{}.safetensors", &digest[..8]);
    let book = Book {
        name: name.into(),
        images: folder.into(),
        weights: weights.clone(),
        backbone: spec.backbone,
        settings,
        path: out.join("codebooks").join(file),
    };
    Ok((book, recipe))
}
