//! What a configuration may hold.

use super::{OptimizerConfig, RunConfig, TokenizerConfig};
use crate::{Error, Result, quantizer::Kind};

impl TokenizerConfig {
    /// Checks every number before anything is sized by it.
    ///
    /// # Errors
    /// [`Error::Config`] names the key.
    pub fn check(&self) -> Result<()> {
        self.model.check()?;
        let Self {
            run,
            data,
            quantizer,
            warm_start,
            loss,
            discriminator,
            optimizer,
            checkpoint,
            watch,
            ..
        } = self;
        let counts = [
            ("data.workers", data.workers, 1 << 10),
            ("warm_start.latents", warm_start.latents, 1 << 26),
            ("quantizer.fc_dim", quantizer.fc_dim, vqlc_ops::MAX_DIM),
            ("discriminator.layers", discriminator.layers, 6),
            ("discriminator.channels", discriminator.channels, 1 << 10),
            ("checkpoint.keep", checkpoint.keep, 1 << 20),
            ("watch.grid_pictures", watch.grid_pictures, 64),
        ];
        check_run(run)?;
        check_counts(&counts)?;
        check_optimizer(optimizer)?;
        for (key, value) in [
            ("checkpoint.every", checkpoint.every),
            ("watch.log_every", watch.log_every),
        ] {
            if value == 0 {
                return bad(key, "0, expected at least 1".into());
            }
        }
        let factor = self.model.factor();
        for (key, size) in [("data.size", data.size), ("data.eval_size", data.eval_size)] {
            if size == 0 || size > 1 << 14 || !size.is_multiple_of(factor) {
                return bad(
                    key,
                    format!("{size}, expected a multiple of {factor} up to 16384"),
                );
            }
        }
        let not_negative = [
            ("loss.l1", loss.l1),
            ("loss.l2", loss.l2),
            ("loss.quantizer", loss.quantizer),
            ("loss.perceptual", loss.perceptual),
            ("loss.gan", loss.gan),
            ("loss.gan_adaptive_max", loss.gan_adaptive_max),
            ("quantizer.beta", quantizer.beta),
            ("quantizer.ema_eps", quantizer.ema_eps),
            ("warm_start.noise", warm_start.noise),
            ("discriminator.lr_factor", discriminator.lr_factor),
        ];
        check_not_negative(&not_negative)?;
        check_decays(&[("quantizer.ema_decay", quantizer.ema_decay)])?;
        let scales = [data.min_scale, data.max_scale];
        if !(scales[0] >= 1.0 && scales[0] <= scales[1] && scales[1] <= 64.0) {
            return bad(
                "data.min_scale",
                format!(
                    "{} to {}, expected 1 <= min_scale <= max_scale <= 64",
                    scales[0], scales[1]
                ),
            );
        }
        if quantizer.kind == Kind::Lc
            && !quantizer.projector
            && self.model.code_dim != self.model.embed_dim
        {
            return bad(
                "quantizer.projector",
                format!(
                    "off needs model.code_dim {} to be model.embed_dim {}",
                    self.model.code_dim, self.model.embed_dim
                ),
            );
        }
        Ok(())
    }
}

/// The sections that every training has.
pub(crate) fn check_run(run: &RunConfig) -> Result<()> {
    check_counts(&[
        ("run.batch", run.batch, 1 << 16),
        ("run.accumulate", run.accumulate, 1 << 16),
    ])?;
    check_decays(&[("run.ema", run.ema)])
}

/// As [`check_run`].
pub(crate) fn check_optimizer(optimizer: &OptimizerConfig) -> Result<()> {
    check_not_negative(&[
        ("optimizer.lr", optimizer.lr),
        ("optimizer.min_lr", optimizer.min_lr),
        ("optimizer.eps", optimizer.eps),
        ("optimizer.weight_decay", optimizer.weight_decay),
        ("optimizer.clip", optimizer.clip),
    ])?;
    let [first, second] = optimizer.betas;
    check_decays(&[("optimizer.betas", first), ("optimizer.betas", second)])
}

/// That each count is at least 1 and at most so many.
pub(crate) fn check_counts(counts: &[(&str, usize, usize)]) -> Result<()> {
    for &(key, value, most) in counts {
        if value == 0 || value > most {
            return bad(key, format!("{value}, expected 1 to {most}"));
        }
    }
    Ok(())
}

fn check_not_negative(numbers: &[(&str, f64)]) -> Result<()> {
    for &(key, value) in numbers {
        if !(value.is_finite() && value >= 0.0) {
            return bad(key, format!("{value}, expected a number of at least 0"));
        }
    }
    Ok(())
}

fn check_decays(numbers: &[(&str, f64)]) -> Result<()> {
    for &(key, value) in numbers {
        if !(0.0..1.0).contains(&value) {
            return bad(key, format!("{value}, expected 0 to below 1"));
        }
    }
    Ok(())
}

pub(crate) fn bad(key: &str, why: String) -> Result<()> {
    Err(Error::Config(format!("{key} is {why}")))
}
