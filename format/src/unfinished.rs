//! Recovering an unfinished file: what its journal vouches for, completed elsewhere.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use crate::error::{Error, Place, Result};
use crate::journal::Entries;
use crate::paths::{journal_of_partial, journal_path, partial_path, remove_if_there};
use crate::replay::{State, replay};
use crate::report::{RecoverReport, RecoverSource};
use crate::sections::{Front, check_spec};
use crate::spec::Spec;
use crate::writer::Writer;

/// An unfinished file, read as far as it is good.
pub(crate) struct Unfinished {
    spec: Spec,
    job: crate::digest::Digest,
    pub(crate) report: RecoverReport,
}

impl Unfinished {
    /// Reads a partial file that has a journal; `None` if it has none.
    pub(crate) fn open(partial: &Path) -> Result<Option<Self>> {
        let journal = journal_of_partial(partial);
        let Some((header, mut entries)) = Entries::open(&journal)? else {
            return Ok(None);
        };
        let file = File::open(partial).map_err(Error::io("open", partial))?;
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked {
                    path: partial.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", partial)(error)),
        }
        let job = header.job;
        let spec = header.spec();
        let layout = check_spec(&spec)?;
        let first_block = Front::new(&spec)?.end();
        let state = replay(&spec, &layout, first_block, &file, partial, &mut entries)?;
        let report = report(&journal, &state)?;
        Ok(Some(Self { spec, job, report }))
    }

    /// Completes a copy of the file as `output`.
    pub(crate) fn recover(
        mut self,
        partial: &Path,
        output: &Path,
        overwrite: bool,
    ) -> Result<RecoverReport> {
        let (to, to_journal) = (partial_path(output), journal_path(output));
        if !overwrite && to.try_exists().map_err(Error::io("look for", &to))? {
            return Err(Error::PartialExists { path: to });
        }
        let finish = || {
            let copy =
                |from: &Path, to: &Path| fs::copy(from, to).map_err(Error::io("copy to", to));
            copy(partial, &to)?;
            copy(&journal_of_partial(partial), &to_journal)?;
            let writer = Writer::resume(output, &self.spec, self.job, overwrite)?;
            let positions = writer.next_position();
            writer.finish(positions)
        };
        let written = finish().inspect_err(|_| {
            // Of several errors the first is the one to tell.
            let _ = remove_if_there(&to_journal);
            let _ = remove_if_there(&to);
        })?;
        self.report.written = Some(written);
        Ok(self.report)
    }
}

/// What the journal knows of against what is good.
fn report(journal: &Path, state: &State) -> Result<RecoverReport> {
    let mut pictures = 0;
    if let Some((_, mut entries)) = Entries::open(journal)? {
        while let Some(entry) = entries.next()? {
            pictures += u64::from(entry.pictures);
        }
    }
    let mut report = RecoverReport::new(RecoverSource::Journal, pictures);
    report.pictures_saved = state.pictures;
    report.records_saved = state.records;
    report.lose(state.pictures..pictures);
    if state.pictures < pictures {
        let error = Error::Field {
            place: Place::Block(state.blocks),
            offset: state.block_start,
            field: "bytes",
            expected: "what the journal says".into(),
            found: "others".into(),
        };
        report.add(Place::Block(state.blocks), state.block_start, 0, error);
    }
    Ok(report)
}
