//! Recovering an unfinished file: what its journal vouches for, completed elsewhere.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Error, Place, Result};
use crate::journal::Entries;
use crate::output::{lock, refuse_in_the_way, remove_unfinished};
use crate::paths::{journal_of_partial, journal_path, partial_path, remove_if_there};
use crate::replay::{State, replay};
use crate::report::{RecoverReport, RecoverSource};
use crate::sections::{Front, check_spec};
use crate::spec::Spec;
use crate::writer::Writer;

/// An unfinished file, read as far as it is good.
pub(crate) struct Unfinished {
    spec: Spec,
    job: Digest,
    /// The partial file, locked against writers.
    file: File,
    journal: PathBuf,
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
        Ok(Some(Self {
            spec,
            job,
            file,
            journal,
            report,
        }))
    }

    /// Completes a copy of the file as `output`, which is none of the input's own files.
    pub(crate) fn recover(mut self, output: &Path, overwrite: bool) -> Result<RecoverReport> {
        refuse_in_the_way(output, overwrite)?;
        // Until the lock is taken the output's partial file may be another writer's.
        let copy = lock(&partial_path(output), true)?;
        let finish = || {
            self.copy_to(output, &copy)?;
            let writer = Writer::resume_locked(output, copy, &self.spec, self.job, overwrite)?;
            if writer.state.pictures != self.report.pictures_saved {
                let expected =
                    format!("the {} pictures found at first", self.report.pictures_saved);
                return Err(Error::argument("input", expected, writer.state.pictures));
            }
            let positions = writer.next_position();
            writer.finish(positions)
        };
        let written = finish().inspect_err(|_| remove_unfinished(output))?;
        self.report.written = Some(written);
        Ok(self.report)
    }

    /// Copies partial file and journal beside `output`, over what `copy` has.
    fn copy_to(&self, output: &Path, mut copy: &File) -> Result<()> {
        let (to, to_journal) = (partial_path(output), journal_path(output));
        copy.set_len(0).map_err(Error::io("cut", &to))?;
        let mut from = &self.file;
        from.rewind()
            .and_then(|()| io::copy(&mut from, &mut copy))
            .map_err(Error::io("copy to", &to))?;
        // Never into what an earlier job's journal may be a link to.
        remove_if_there(&to_journal).map_err(Error::io("remove", &to_journal))?;
        fs::copy(&self.journal, &to_journal).map_err(Error::io("copy to", &to_journal))?;
        Ok(())
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
