//! Taking up a stopped job: which states the disk can be in, and what each means.
//!
//! | final file | partial | journal | means |
//! |---|---|---|---|
//! | any | yes | good header | resumed from the last entry whose bytes are good; a sealed but not yet renamed file is sealed again |
//! | any | yes, no block | none or torn | killed at the very start: begun anew |
//! | any | yes, with blocks | none or torn | [`Error::JournalLost`]: nothing says which job it is of |
//! | yes | no | of this job | killed between renaming and removing the journal: complete |
//! | any | no | other | nothing to resume |

use std::fs::File;
use std::path::Path;

use crate::error::{Error, Result};
use crate::journal::Entries;
use crate::layout::Layout;
use crate::paths::{journal_path, partial_path, remove_if_there};
use crate::records::JournalHeader;
use crate::replay::{State, replay};
use crate::sections::Front;
use crate::spec::Spec;

/// What a resume is to answer when there is no partial file.
pub(crate) fn without_partial(path: &Path, header: &JournalHeader) -> Error {
    let nothing = Error::NothingToResume {
        path: partial_path(path),
    };
    let journal = journal_path(path);
    let found = match Entries::open(&journal) {
        Ok(found) => found,
        Err(error) => return error,
    };
    if !path.is_file() || found.is_none_or(|(found, _)| found != *header) {
        return nothing;
    }
    match remove_if_there(&journal) {
        Ok(()) => Error::AlreadyComplete {
            path: path.to_owned(),
        },
        Err(error) => Error::io("remove", &journal)(error),
    }
}

/// How far the job of `header` got; `None` if it had not begun.
pub(crate) fn read_state(
    path: &Path,
    spec: &Spec,
    layout: &Layout,
    front: &Front,
    file: &File,
    header: &JournalHeader,
) -> Result<Option<State>> {
    let partial = partial_path(path);
    let Some((found, mut entries)) = Entries::open(&journal_path(path))? else {
        let length = file
            .metadata()
            .map_err(Error::io("look for", &partial))?
            .len();
        if length > front.end() {
            return Err(Error::JournalLost { path: partial });
        }
        return Ok(None);
    };
    refuse_other_job(&partial, &found, header)?;
    replay(spec, layout, front.end(), file, &partial, &mut entries).map(Some)
}

fn refuse_other_job(partial: &Path, journal: &JournalHeader, now: &JournalHeader) -> Result<()> {
    let mismatch = |what, expected: String, found: String| {
        Err(Error::ResumeMismatch {
            path: partial.to_owned(),
            what,
            expected,
            found,
        })
    };
    macro_rules! same {
        ($what:literal, $($field:ident).+) => {
            if journal.$($field).+ != now.$($field).+ {
                let (expected, found) = (&journal.$($field).+, &now.$($field).+);
                return mismatch($what, format!("{expected:?}"), format!("{found:?}"));
            }
        };
    }
    same!("the codebook's size", codebook_size);
    same!("the codebook's digest", digests.codebook);
    same!("the encoder's digest", digests.encoder);
    same!("the decoder's digest", digests.decoder);
    same!("the static codebook's digest", digests.source);
    same!("the grid's rows", grid_rows);
    same!("the grid's columns", grid_cols);
    same!("the views", metadata.views);
    same!("the records of a block", records_per_block);
    same!("whether names are kept", names);
    same!("whether sizes are kept", sizes);
    if journal.metadata.preprocessing != now.metadata.preprocessing {
        let [expected, found] = [journal, now]
            .map(|header| String::from_utf8_lossy(&header.metadata.preprocessing).into_owned());
        return mismatch("the preprocessing", expected, found);
    }
    if journal.classes != now.classes {
        let [expected, found] = [journal, now].map(|header| match &header.classes {
            Some(classes) => format!("{} class names", classes.len()),
            None => "no labels".to_owned(),
        });
        return mismatch("the class names", expected, found);
    }
    same!("the input (its list, sizes, times or options)", job);
    Ok(())
}
