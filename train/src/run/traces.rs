//! A run's traces on the disk: metrics.jsonl, TensorBoard events, grids of pictures.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use vqlc_model::image::Rgb;

use crate::{
    Error, Result,
    files::write_whole,
    watch::{Events, MetricsLog, png},
};

pub(crate) struct Traces {
    log: MetricsLog,
    events: Events,
    grids: PathBuf,
}

impl Traces {
    /// For a run in `out` that has made `step` steps.
    pub(crate) fn new(out: &Path, step: u64) -> Result<Self> {
        let grids = out.join("grids");
        fs::create_dir_all(&grids).map_err(|e| Error::io(&grids, e))?;
        Ok(Self {
            log: MetricsLog::open(&out.join("metrics.jsonl"), step)?,
            events: Events::create(out, step)?,
            grids,
        })
    }

    /// Writes a line of metrics, and its numbers under their names in TensorBoard (`loss/total` is shown in the group `loss`).
    pub(crate) fn line<'a>(
        &mut self,
        step: u64,
        line: &impl Serialize,
        scalars: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        self.log.write(step, line)?;
        self.events.scalars(step, scalars)
    }

    /// Writes a grid of pictures, in TensorBoard under `name`.
    pub(crate) fn grid(&mut self, step: u64, name: &str, picture: &Rgb) -> Result<()> {
        self.events.picture(step, name, picture)?;
        let path = self.grids.join(format!("step-{step:09}.png"));
        write_whole(&path, &png(picture)?)
    }
}
