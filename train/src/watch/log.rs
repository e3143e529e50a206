//! `metrics.jsonl`: one JSON object a line, each with its step.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Lines longer than this are not ours.
pub(crate) const LINE_LIMIT: u64 = 1 << 20;

/// Appends numbers to a file as a run goes on.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

#[derive(Serialize)]
struct Line<'a, T> {
    step: u64,
    #[serde(flatten)]
    values: &'a T,
}

#[derive(Deserialize)]
struct Step {
    step: u64,
}

impl MetricsLog {
    /// Opens `path` for a run that goes on after `step` steps, and drops the lines of later ones, which the interrupted run wrote
    /// after its last checkpoint: they will be written again. 0 is the beginning of a run and keeps only lines of step 0.
    ///
    /// # Errors
    /// A file that cannot be read or written; a line that is no JSON object with a step. (The last line may be cut short: the run
    /// was, too.)
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let io = |e| Error::io(path, e);
        if path.try_exists().map_err(io)? {
            let part = path.with_extension("jsonl.part");
            let kept = keep(path, &part, step);
            if kept.is_err() {
                // The error that stopped it says more than one about the half-written copy.
                let _ = fs::remove_file(&part);
            }
            kept?;
            fs::rename(&part, path).map_err(io)?;
        }
        let file = File::options().create(true).append(true).open(path);
        Ok(Self {
            path: path.to_path_buf(),
            file: file.map_err(io)?,
        })
    }

    /// Writes the values of a step, which must serialize as a map or a struct without a `step` of its own; numbers that are not
    /// finite become `null`. The line is in the file when this returns.
    ///
    /// # Errors
    /// A file that cannot be written, or values that are no map.
    pub fn write(&mut self, step: u64, values: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(&Line { step, values })
            .map_err(|e| Error::malformed(&self.path, format!("a line for it: {e}")))?;
        line.push(b'\n');
        // In one piece: a run that is killed leaves at most its last line unfinished.
        self.file
            .write_all(&line)
            .map_err(|e| Error::io(&self.path, e))
    }
}

/// Copies the lines of steps up to `step`.
fn keep(path: &Path, part: &Path, step: u64) -> Result<()> {
    let io = |e| Error::io(path, e);
    let part_io = |e| Error::io(part, e);
    let mut from = BufReader::new(File::open(path).map_err(io)?);
    let mut to = BufWriter::new(File::create(part).map_err(part_io)?);
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let mut limited = std::io::Read::take(&mut from, LINE_LIMIT);
        limited.read_until(b'\n', &mut line).map_err(io)?;
        if !line.ends_with(b"\n") && (line.len() as u64) < LINE_LIMIT {
            // The end, or a line that was being written when the run ended.
            break;
        }
        let found: Step = serde_json::from_slice(&line).map_err(|e| {
            Error::malformed(path, format!("line {number} holds no step of a run: {e}"))
        })?;
        if found.step <= step {
            to.write_all(&line).map_err(part_io)?;
        }
    }
    let file = to.into_inner().map_err(|e| part_io(e.into_error()))?;
    file.sync_all().map_err(part_io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn values(loss: f64) -> BTreeMap<&'static str, f64> {
        BTreeMap::from([("loss", loss), ("seconds", 0.5)])
    }

    #[test]
    fn a_resumed_run_has_each_step_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let write = |log: &mut MetricsLog, steps: &[u64]| {
            for &step in steps {
                log.write(step, &values(step as f64)).unwrap();
            }
        };
        write(&mut MetricsLog::open(&path, 0).unwrap(), &[1, 2, 3, 4]);
        let unbroken = fs::read(&path).unwrap();
        assert!(unbroken.starts_with(b"{\"step\":1,\"loss\":1.0,\"seconds\":0.5}\n"));
        // Killed within a line, and resumed from the checkpoint of step 2.
        fs::write(&path, [&unbroken[..], b"{\"step\":5,\"lo"].concat()).unwrap();
        write(&mut MetricsLog::open(&path, 2).unwrap(), &[3, 4]);
        assert_eq!(fs::read(&path).unwrap(), unbroken);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_finite_is_null_and_other_files_are_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        log.write(1, &values(f64::NAN)).unwrap();
        assert!(log.write(2, &5).is_err());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":1,\"loss\":null,\"seconds\":0.5}\n");
        fs::write(&path, "notes\n").unwrap();
        assert!(MetricsLog::open(&path, 1).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"notes\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
