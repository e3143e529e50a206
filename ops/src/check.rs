//! Checks of arguments shared by the plain and the fast versions.

use crate::{Error, MAX_DIM, MAX_ENTRIES};

/// A table that can be searched: `[n, dim]`, `n` and `dim` in range, all finite.
pub(crate) fn table(table: &[f32], dim: usize) -> Result<(), Error> {
    if !(1..=MAX_DIM).contains(&dim) {
        return Err(Error::Dim {
            max: MAX_DIM,
            got: dim,
        });
    }
    rows("table", table, dim)?;
    let entries = table.len() / dim;
    if !(1..=MAX_ENTRIES).contains(&entries) {
        return Err(Error::Entries {
            max: MAX_ENTRIES,
            got: entries,
        });
    }
    Ok(())
}

/// Queries that have a nearest entry: `[m, dim]`, all finite. `m` may be 0.
pub(crate) fn queries(queries: &[f32], dim: usize) -> Result<(), Error> {
    rows("queries", queries, dim)
}

/// An output with one place a query.
pub(crate) fn output(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    if expected == got {
        Ok(())
    } else {
        Err(Error::Output {
            what,
            expected,
            got,
        })
    }
}

fn rows(what: &'static str, values: &[f32], dim: usize) -> Result<(), Error> {
    if !values.len().is_multiple_of(dim) {
        return Err(Error::Ragged {
            what,
            dim,
            got: values.len(),
        });
    }
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let got = match values[at] {
                value if value.is_nan() => "NaN",
                value if value > 0.0 => "inf",
                _ => "-inf",
            };
            Err(Error::NotFinite {
                what,
                row: at / dim,
                column: at % dim,
                got,
            })
        }
    }
}
