//! Checkpoints: everything that a run needs to go on as if it had never stopped.
//!
//! A checkpoint is one safetensors file `step-N.safetensors`; its metadata `vqlc-checkpoint` is JSON with a version, the step and the
//! CRC-32 of all tensor bytes in name order. What the names mean is the trainer's affair.

use std::{
    fs,
    path::{Path, PathBuf},
};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use vqlc_model::params::Tensors;

use crate::{
    Error, Result,
    files::{checksum, expect_checksum, read_tensors, write_tensors},
};

const META: &str = "vqlc-checkpoint";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    version: u32,
    step: u64,
    crc32: u32,
}

/// A folder of checkpoints.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    keep: usize,
}

/// What [`Store::newest`] found.
#[derive(Debug)]
pub struct Found {
    /// The step after which it was written.
    pub step: u64,
    /// Its tensors, on the CPU.
    pub tensors: Tensors,
    /// Newer files that could not be used, and why.
    pub passed_over: Vec<String>,
}

impl Store {
    /// Checkpoints in `folder`, of which the newest `keep` stay.
    pub fn new(folder: &Path, keep: usize) -> Self {
        Self {
            folder: folder.to_path_buf(),
            keep,
        }
    }

    /// Writes one, then removes those that are too old.
    ///
    /// # Errors
    /// [`Error::Io`]; older ones stay then.
    pub fn save(&self, step: u64, tensors: &Tensors) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder).map_err(|e| Error::io(&self.folder, e))?;
        let path = self.path(step);
        let meta = Meta {
            version: VERSION,
            step,
            crc32: checksum("", tensors),
        };
        write_tensors(&path, META, &meta, tensors)?;
        // What lies ahead of this one was passed over when the run went on: it is no reason to remove one that can be read.
        let listed = self.list()?;
        let behind = listed.iter().filter(|(found, _)| *found <= step);
        for (_, old) in behind.rev().skip(self.keep) {
            fs::remove_file(old).map_err(|e| Error::io(old, e))?;
        }
        Ok(path)
    }

    /// The newest that can be read; `None` where there is none at all.
    ///
    /// # Errors
    /// [`Error::Malformed`] where there are some and none can be read.
    pub fn newest(&self) -> Result<Option<Found>> {
        let mut passed_over = Vec::new();
        for (step, path) in self.list()?.into_iter().rev() {
            match read(&path, step) {
                Ok(tensors) => {
                    return Ok(Some(Found {
                        step,
                        tensors,
                        passed_over,
                    }));
                }
                Err(error) => passed_over.push(error.to_string()),
            }
        }
        match passed_over.first() {
            Some(first) => Err(Error::malformed(
                &self.folder,
                format!("no checkpoint can be read; the newest: {first}"),
            )),
            None => Ok(None),
        }
    }

    /// The newest file, if there is one; it is not read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn last(&self) -> Result<Option<PathBuf>> {
        Ok(self.list()?.pop().map(|(_, path)| path))
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:09}.safetensors"))
    }

    /// Steps and files, oldest first.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(&self.folder, e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Error::io(&self.folder, e))?.path();
            let step = (path.file_name().and_then(|name| name.to_str()))
                .and_then(|name| name.strip_prefix("step-")?.strip_suffix(".safetensors"))
                .and_then(|digits| digits.parse().ok());
            found.extend(step.map(|step| (step, path)));
        }
        found.sort();
        Ok(found)
    }
}

fn read(path: &Path, step: u64) -> Result<Tensors> {
    let (meta, tensors): (Meta, _) = read_tensors(path, META, "a checkpoint")?;
    if meta.version != VERSION || meta.step != step {
        let why = format!(
            "version {} of step {}, expected version {VERSION} of step {step}",
            meta.version, meta.step
        );
        return Err(Error::malformed(path, why));
    }
    expect_checksum(path, "", &tensors, meta.crc32)?;
    Ok(tensors)
}

/// The tensors whose names start with `prefix`, without it.
pub(crate) fn part(tensors: &Tensors, prefix: &str) -> Tensors {
    let strip = |(name, tensor): (&String, &Tensor)| {
        Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
    };
    tensors.iter().filter_map(strip).collect()
}

/// Adds `part` under `prefix`.
pub(crate) fn add_part(tensors: &mut Tensors, prefix: &str, part: Tensors) {
    tensors.extend(
        part.into_iter()
            .map(|(name, tensor)| (format!("{prefix}{name}"), tensor)),
    );
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensors(value: f32) -> Tensors {
        let tensor = Tensor::new(&[value, 1.0, -0.0], &Device::Cpu).unwrap();
        Tensors::from([("params.a".into(), tensor)])
    }

    #[test]
    fn the_newest_whole_one_is_read_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), 2);
        assert!(store.newest().unwrap().is_none());
        for step in [5, 10, 15] {
            store.save(step, &tensors(step as f32)).unwrap();
        }
        assert_eq!(store.list().unwrap().len(), 2);
        let newest = store.path(15);
        let mut bytes = fs::read(&newest).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&newest, &bytes).unwrap();
        let found = store.newest().unwrap().unwrap();
        assert_eq!((found.step, found.passed_over.len()), (10, 1));
        assert!(found.passed_over[0].contains("damaged"));
        let value = found.tensors["params.a"].to_vec1::<f32>().unwrap();
        assert_eq!(value[0], 10.0);
        fs::write(store.path(10), &bytes[..40]).unwrap();
        assert!(store.newest().is_err());
    }

    #[test]
    fn parts_go_in_and_come_out() {
        let mut all = Tensors::new();
        add_part(&mut all, "adam.", tensors(3.0));
        assert!(all.contains_key("adam.params.a"));
        assert_eq!(part(&all, "adam.").len(), 1);
        assert!(part(&all, "ema.").is_empty());
    }
}
