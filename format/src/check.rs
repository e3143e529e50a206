//! Checking a file that could be opened: every section, and all blocks or a sample of them.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::copy::{check_labels, check_texts};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Place, Result};
use crate::order::Permutation;
use crate::reader::TokenFile;
use crate::records::{BLOCKS, Footer, Header, LABELS, NAMES, SectionEntry};
use crate::report::{CheckOptions, CheckReport, Problem};
use crate::side::read_names;

impl<D: AsRef<[u8]>> TokenFile<D> {
    /// Checks every section, and all blocks or a sample of them: CRCs, SHA-256s, record tables, padding bits, ids, labels,
    /// names; without a sample also the content digest. What opening checks is right already. Collects what is wrong
    /// instead of stopping at it.
    pub fn check(&self, options: &CheckOptions) -> CheckReport
    where
        D: Sync,
    {
        let blocks = self.header().blocks;
        let picked = match options.sample {
            // At least one, so that a sample says something; a NaN share casts to 0.
            Some(share) => ((share.clamp(0.0, 1.0) * blocks as f64).ceil() as u64)
                .clamp(1, blocks.max(1))
                .min(blocks),
            None => blocks,
        };
        let order = (picked < blocks).then(|| Permutation::new(blocks, options.seed));
        let next = AtomicU64::new(0);
        let report = Mutex::new(CheckReport {
            blocks,
            blocks_checked: picked,
            bytes_checked: (Header::LEN + Footer::LEN) as u64,
            ..CheckReport::default()
        });
        let work = || {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= picked {
                    return;
                }
                let number = order.as_ref().map_or(turn, |order| order.at(turn));
                self.check_block(number, &report);
            }
        };
        let threads = options
            .threads
            .clamp(1, 1024)
            .min(usize::try_from(picked).unwrap_or(1024));
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.check_sections(&mut report);
        report.problems.sort_by_key(|problem| problem.offset);
        report
    }

    fn check_block(&self, number: u64, report: &Mutex<CheckReport>) {
        let result = self.verify_block(number, None).and_then(|(entry, bytes)| {
            let found = Digest::of(bytes);
            if found != entry.sha256 {
                return Err(Error::DigestMismatch {
                    place: Place::Block(number),
                    offset: entry.offset,
                    expected: entry.sha256,
                    found,
                });
            }
            Ok(())
        });
        let ids = self.ids_in_block(number, result.is_ok());
        let (offset, len) = self
            .index_entry(number)
            .map_or((0, 0), |entry| (entry.offset, entry.length));
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        report.bytes_checked += len;
        report.ids_checked += ids;
        if let Err(error) = result {
            report.add(Problem {
                what: Place::Block(number),
                offset,
                len,
                error,
            });
        }
    }

    /// Ids in a block that was found good.
    fn ids_in_block(&self, number: u64, good: bool) -> u64 {
        let Ok(entry) = self.index_entry(number) else {
            return 0;
        };
        let records = entry.first_record..entry.first_record + u64::from(entry.records);
        match self.layout.fixed() {
            _ if !good => 0,
            Some(fixed) => u64::from(entry.records) * fixed.ids() as u64,
            None => records
                .filter_map(|record| self.shape(record).ok())
                .map(|(rows, cols)| u64::from(rows) * u64::from(cols))
                .sum(),
        }
    }

    fn check_sections(&self, report: &mut CheckReport) {
        let mut hasher = Hasher::default();
        for number in 0..self.header().blocks {
            if let Ok(entry) = self.index_entry(number) {
                hasher.update(&entry.sha256.0);
            }
        }
        let mut all_good = true;
        for section in self
            .header()
            .sections()
            .iter()
            .filter(|section| section.kind != BLOCKS)
        {
            let digest = self.check_section(section);
            report.bytes_checked += section.length;
            match digest {
                Ok(digest) => hasher.update(&digest.0),
                Err(error) => {
                    all_good = false;
                    report.add(Problem {
                        what: section.place(),
                        offset: section.offset,
                        len: section.length,
                        error,
                    });
                }
            }
        }
        let found = hasher.finish();
        if all_good && found != self.content() {
            let offset = self.header().file_length - Footer::LEN as u64;
            report.add(Problem {
                what: Place::Footer,
                offset,
                len: Footer::LEN as u64,
                error: Error::DigestMismatch {
                    place: Place::Footer,
                    offset,
                    expected: self.content(),
                    found,
                },
            });
        }
    }

    /// Checks a section and what it says; its SHA-256.
    fn check_section(&self, section: &SectionEntry) -> Result<Digest> {
        let bytes = self.bytes(section.offset, section.length)?;
        // Not by way of the lazy check: bytes of a map may have changed since.
        crate::reader::check_section(section, bytes)?;
        match section.kind {
            LABELS => check_labels(section, bytes, self.classes().map_or(0, <[_]>::len))?,
            NAMES => check_texts(read_names(self.pictures(), section, bytes)?)?,
            _ => {}
        }
        Ok(Digest::of(bytes))
    }
}
