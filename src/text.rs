//! Numbers as people read them, and JSON as programs do.

use std::{borrow::Cow, io::Write, path::Path};

use serde::Serialize;

/// `34816` as `34,816`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `n` things in words: `1 record`, `34,816 records`. The plural is the singular with an s.
pub(crate) fn things(n: u64, singular: &str) -> String {
    format!("{} {singular}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A length in bytes with a decimal unit, as disks and networks are measured: `79.1 kB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1000 {
        return things(n, "byte");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Text on stdout, as it is.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// One JSON object on a line of its own on stdout.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    std::io::stdout().write_all(&line)?;
    Ok(())
}

/// A token file that was written, as JSON says it.
#[derive(Serialize)]
pub(crate) struct Written<'a> {
    file: Cow<'a, str>,
    records: u64,
    pictures: u64,
    bytes: u64,
    id_bytes: u64,
    distinct_ids: u32,
    content: String,
}

impl<'a> Written<'a> {
    pub(crate) fn new(path: &'a Path, summary: &vqlc_format::Summary) -> Self {
        Self {
            file: path.to_string_lossy(),
            records: summary.records,
            pictures: summary.pictures,
            bytes: summary.file_len,
            id_bytes: summary.id_bytes,
            distinct_ids: summary.distinct_ids,
            content: summary.content.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(things(1, "record"), "1 record");
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(1_000), "1.0 kB");
        assert_eq!(bytes(999_949), "999.9 kB");
        assert_eq!(bytes(999_950), "1.0 MB");
        assert_eq!(bytes(u64::MAX), "18446.7 PB");
    }
}
