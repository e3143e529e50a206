//! Signatures, until the real ones land.
#![allow(missing_docs, unused_variables, clippy::missing_errors_doc)]
use crate::*;
use std::ops::Range;
use std::path::{Path, PathBuf};

fn later<T>() -> Result<T> {
    Err(Error::argument("this operation", "written", "not yet"))
}
pub struct Writer(());
impl Writer {
    pub fn create(path: &Path, spec: &Spec, job: Digest, overwrite: bool) -> Result<Writer> { later() }
    pub fn resume(path: &Path, spec: &Spec, job: Digest, overwrite: bool) -> Result<Writer> { later() }
    pub fn next_position(&self) -> u64 { 0 }
    pub fn skipped_positions(&self) -> u64 { 0 }
    pub fn push(&mut self, position: u64, picture: &Picture) -> Result<()> { later() }
    pub fn finish(self, positions: u64) -> Result<Summary> { later() }
    pub fn suspend(self) -> Result<()> { later() }
    pub fn discard(self) -> Result<()> { later() }
}
pub fn partial_path(path: &Path) -> PathBuf { path.into() }
pub fn journal_path(path: &Path) -> PathBuf { path.into() }
pub struct Mapped(());
impl AsRef<[u8]> for Mapped { fn as_ref(&self) -> &[u8] { &[] } }
pub struct TokenFile<D> { data: D, header: Header, digests: Digests }
impl TokenFile<Mapped> { pub fn open(path: &Path) -> Result<Self> { later() } }
impl TokenFile<Vec<u8>> { pub fn read(path: &Path) -> Result<Self> { later() } }
impl<D: AsRef<[u8]>> TokenFile<D> {
    pub fn new(data: D) -> Result<Self> { later() }
    pub fn header(&self) -> &Header { &self.header }
    pub fn digests(&self) -> &Digests { &self.digests }
    pub fn content(&self) -> Digest { Digest::default() }
    pub fn len(&self) -> u64 { 0 }
    pub fn is_empty(&self) -> bool { true }
    pub fn pictures(&self) -> u64 { 0 }
    pub fn views(&self) -> &[String] { &[] }
    pub fn grid(&self) -> Grid { Grid::Varying }
    pub fn codebook_size(&self) -> u32 { 0 }
    pub fn bits(&self) -> u32 { 0 }
    pub fn spec(&self) -> Spec { Spec { codebook_size: 1, grid: Grid::Varying, views: vec![], records_per_block: None, digests: self.digests, preprocessing: vec![], classes: None, names: false, sizes: false } }
    pub fn preprocessing(&self) -> &[u8] { &[] }
    pub fn classes(&self) -> Option<&[Vec<u8>]> { None }
    pub fn shape(&self, record: u64) -> Result<(u32, u32)> { later() }
    pub fn get(&self, record: u64, out: &mut Vec<u32>) -> Result<(u32, u32)> { later() }
    pub fn get_range(&self, records: Range<u64>, out: &mut [u32]) -> Result<()> { later() }
    pub fn gather(&self, records: &[u64], out: &mut [u32]) -> Result<()> { later() }
    pub fn label(&self, picture: u64) -> Result<Option<u32>> { later() }
    pub fn name(&self, picture: u64) -> Result<Option<Vec<u8>>> { later() }
    pub fn names(&self) -> impl Iterator<Item = Result<Vec<u8>>> { std::iter::empty() }
    pub fn size(&self, picture: u64) -> Result<Option<(u32, u32)>> { later() }
    pub fn check(&self, options: &CheckOptions) -> CheckReport where D: Sync { CheckReport::default() }
}
pub fn recover(input: &Path, output: &Path, overwrite: bool) -> Result<RecoverReport> { later() }
pub fn survey(input: &Path) -> Result<RecoverReport> { later() }
pub fn merge(inputs: &[PathBuf], output: &Path, overwrite: bool) -> Result<Summary> { later() }
pub fn split(input: &Path, outputs: &[PathBuf], overwrite: bool) -> Result<Vec<Summary>> { later() }
