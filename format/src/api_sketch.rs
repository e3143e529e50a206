//! Signatures, until the real ones land.
#![allow(missing_docs, unused_variables)]
use crate::*;
use std::path::{Path, PathBuf};

fn later<T>() -> Result<T> {
    Err(Error::argument("this operation", "written", "not yet"))
}
pub fn recover(input: &Path, output: &Path, overwrite: bool) -> Result<RecoverReport> {
    later()
}
pub fn survey(input: &Path) -> Result<RecoverReport> {
    later()
}
pub fn merge(inputs: &[PathBuf], output: &Path, overwrite: bool) -> Result<Summary> {
    later()
}
pub fn split(input: &Path, outputs: &[PathBuf], overwrite: bool) -> Result<Vec<Summary>> {
    later()
}
