//! A run's traces on the disk: metrics.jsonl, TensorBoard events, grids.

use std::{
    fs,
    path::{Path, PathBuf},
};

use vqlc_model::image::{OutFormat, write};

use super::StepReport;
use crate::{
    Error, Result,
    files::write_whole,
    watch::{Events, MetricsLog, grid},
};

/// Pairs in a row of a grid.
const COLUMNS: usize = 4;

pub(super) struct Watching {
    log: MetricsLog,
    events: Events,
    grids: PathBuf,
}

impl Watching {
    /// For a run in `out` that has made `step` steps.
    pub(super) fn new(out: &Path, step: u64) -> Result<Self> {
        let grids = out.join("grids");
        fs::create_dir_all(&grids).map_err(|e| Error::io(&grids, e))?;
        Ok(Self {
            log: MetricsLog::open(&out.join("metrics.jsonl"), step)?,
            events: Events::create(out, step)?,
            grids,
        })
    }

    /// Writes a line of metrics.
    pub(super) fn line(&mut self, line: &StepReport) -> Result<()> {
        self.log.write(line.step, line)?;
        let scalars = [
            ("loss/total", line.loss),
            ("loss/l1", line.l1),
            ("loss/l2", line.l2),
            ("loss/perceptual", line.perceptual),
            ("loss/quantizer", line.quantizer),
            ("loss/generator", line.generator),
            ("loss/discriminator", line.discriminator),
            ("gan/adaptive_weight", line.adaptive_weight),
            ("codebook/quantization_error", line.quantization_error),
            ("codebook/utilisation", line.utilisation),
            ("codebook/perplexity", line.perplexity),
            ("optimizer/gradient_norm", line.gradient_norm),
            ("optimizer/lr", line.lr),
            ("speed/images_per_s", line.images_per_s),
            ("speed/data_wait", line.data_wait),
        ];
        self.events.scalars(line.step, scalars)
    }

    /// Writes originals beside reconstructions, both `[n, 3, side, side]` in [-1, 1].
    pub(super) fn grid(
        &mut self,
        step: u64,
        originals: &[f32],
        made: &[f32],
        side: usize,
    ) -> Result<()> {
        let picture = grid(originals, made, (side, side), COLUMNS)?;
        self.events.picture(step, "reconstructions", &picture)?;
        let path = self.grids.join(format!("step-{step:09}.png"));
        let mut png = Vec::new();
        write(&picture, OutFormat::Png, &mut png)
            .map_err(|e| Error::malformed(&path, e.to_string()))?;
        write_whole(&path, &png)
    }
}
