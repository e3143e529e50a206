//! What `check`, `survey` and `recover` tell.

use std::ops::Range;

use crate::digest::Digest;
use crate::error::{Error, Place};
use crate::spec::Summary;

/// How thoroughly [`TokenFile::check`](crate::TokenFile::check) looks.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CheckOptions {
    /// Share of the blocks to check, 0 to 1 (rounded up to whole blocks); `None` = all. Sections are always checked.
    pub sample: Option<f64>,
    /// Seed that chooses the blocks of a sample.
    pub seed: u64,
    /// Threads to use, at least 1 (0 counts as 1).
    pub threads: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            sample: None,
            seed: 0,
            threads: 1,
        }
    }
}

/// Something wrong with a file.
#[derive(Debug)]
pub struct Problem {
    /// The part of the file.
    pub what: Place,
    /// Its first byte.
    pub offset: u64,
    /// Its bytes.
    pub len: u64,
    /// What is wrong.
    pub error: Error,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// What is wrong, in file order; at most [`CheckReport::MAX_PROBLEMS`] are kept.
    pub problems: Vec<Problem>,
    /// How many further problems were found and not kept.
    pub further_problems: u64,
    /// Blocks of the file.
    pub blocks: u64,
    /// Blocks that were checked.
    pub blocks_checked: u64,
    /// Bytes that were checked: the whole file's unless a sample was asked for.
    pub bytes_checked: u64,
    /// Ids that were checked to be below K.
    pub ids_checked: u64,
}

impl CheckReport {
    /// Problems kept in a report.
    pub const MAX_PROBLEMS: usize = 1000;

    pub(crate) fn add(&mut self, problem: Problem) {
        if self.problems.len() < Self::MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.further_problems += 1;
        }
    }

    /// Whether nothing was found wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Where a recovery learnt what the file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecoverSource {
    /// The header is intact.
    Header,
    /// The header is damaged; the footer's copy was used.
    Footer,
    /// An unfinished file: its journal was used.
    Journal,
}

/// What can be, or was, saved from a damaged or unfinished file.
#[derive(Debug)]
pub struct RecoverReport {
    /// Where it was learnt what the file is.
    pub source: RecoverSource,
    /// Pictures that the file should have; for an unfinished file, pictures that its journal knows.
    pub pictures: u64,
    /// Pictures saved.
    pub pictures_saved: u64,
    /// Records saved (pictures times views).
    pub records_saved: u64,
    /// Pictures lost, as ranges of picture numbers in the damaged file.
    pub lost: Vec<Range<u64>>,
    /// Sections that could not be saved. Without metadata the views are named by number and there is no preprocessing
    /// record; without class names classes are named by number; without labels, names or sizes there are none. Sections of
    /// a newer version are lost even where they are good.
    pub sections_lost: Vec<Place>,
    /// What is wrong, in file order; at most [`CheckReport::MAX_PROBLEMS`] are kept.
    pub problems: Vec<Problem>,
    /// How many further problems were found and not kept.
    pub further_problems: u64,
    /// The file written by `recover`, `None` from `survey`.
    pub written: Option<Summary>,
}

impl RecoverReport {
    /// Whether nothing is lost or wrong: every picture and every section is saved.
    pub fn is_lossless(&self) -> bool {
        self.lost.is_empty() && self.sections_lost.is_empty()
    }

    pub(crate) fn new(source: RecoverSource, pictures: u64) -> Self {
        Self {
            source,
            pictures,
            pictures_saved: 0,
            records_saved: 0,
            lost: Vec::new(),
            sections_lost: Vec::new(),
            problems: Vec::new(),
            further_problems: 0,
            written: None,
        }
    }

    pub(crate) fn add(&mut self, what: Place, offset: u64, len: u64, error: Error) {
        if self.problems.len() < CheckReport::MAX_PROBLEMS {
            self.problems.push(Problem {
                what,
                offset,
                len,
                error,
            });
        } else {
            self.further_problems += 1;
        }
    }

    /// Notes pictures that are not there; ranges come in order.
    pub(crate) fn lose(&mut self, pictures: Range<u64>) {
        match self.lost.last_mut() {
            _ if pictures.is_empty() => {}
            Some(last) if last.end == pictures.start => last.end = pictures.end,
            _ => self.lost.push(pictures),
        }
    }

    /// Content digest of the file written, if one was.
    pub fn content(&self) -> Option<Digest> {
        self.written.map(|summary| summary.content)
    }
}
