//! What a row was made with and what it came to, on the disk.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, files::write_whole, measure::Evaluation, trainer::UsageReport};

/// Settings by name, as text: what decides what a row comes to.
pub(super) type Settings = BTreeMap<String, String>;

/// `DIR/NAME.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) settings: Settings,
    pub(super) outcome: Outcome,
}

/// How a row ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Failed(String),
    Done(Box<Figures>),
}

/// What a row came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// The day it was measured, `YYYY-MM-DD`, UTC.
    pub date: String,
    /// vqlc's version.
    pub version: String,
    /// Steps made.
    pub steps: u64,
    /// SHA-256 of the codebook's entries, where it started from one.
    pub codebook: Option<String>,
    /// How much of the codebook the training pictures use.
    pub usage: UsageReport,
    /// What comes back of the pictures that are measured on.
    pub quality: Option<Quality>,
    /// Training pictures that could not be read.
    pub unreadable: usize,
}

/// What comes back of pictures: means over them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quality {
    /// Pictures measured.
    pub pictures: u64,
    /// Those that could not be measured.
    pub skipped: u64,
    /// Their names, and why.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// dB; none where it is infinite, as a picture came back as it was.
    pub psnr: Option<f64>,
    /// 0 to 1.
    pub ssim: f64,
    /// Perceptual distance on EfficientNet-Lite0.
    pub perceptual: Option<f64>,
    /// Fréchet distance on EfficientNet-Lite0's features; no FID.
    pub fd_efflite0: Option<f64>,
}

impl Quality {
    pub(super) fn of(found: &Evaluation) -> Self {
        Self {
            pictures: found.comparison.pictures,
            skipped: found.skipped,
            left_out: found.left_out.clone(),
            // JSON has no word for an infinite number.
            psnr: Some(found.comparison.mean.psnr).filter(|psnr| psnr.is_finite()),
            ssim: found.comparison.mean.ssim,
            perceptual: found.comparison.mean.perceptual,
            fd_efflite0: found.comparison.fd_efflite0,
        }
    }
}

/// Reads JSON that [`write`] wrote; `None` where there is no file.
pub(super) fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, e)),
    };
    let record = serde_json::from_slice(&text).map_err(|e| {
        Error::malformed(
            path,
            format!("no row of an ablation: {e}; move it away, or name another folder"),
        )
    })?;
    Ok(Some(record))
}

pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|e| Error::malformed(path, e.to_string()))?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// Today, `YYYY-MM-DD`, UTC.
pub(super) fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    date(since.map_or(0, |time| time.as_secs() / 86_400))
}

/// The date so many days after 1970-01-01.
fn date(days: u64) -> String {
    const LENGTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    loop {
        let length = LENGTHS[month] + u64::from(month == 1 && leap(year));
        if left < length {
            return format!("{year:04}-{:02}-{:02}", month + 1, left + 1);
        }
        left -= length;
        month += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_infinite_or_of_other_versions_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("row.json");
        let quality = Quality {
            pictures: 3,
            skipped: 1,
            left_out: vec!["a.png: damaged".into()],
            psnr: None,
            ssim: 1.0,
            perceptual: Some(0.0),
            fd_efflite0: None,
        };
        write(&path, &quality).unwrap();
        let found: Quality = read(&path).unwrap().unwrap();
        assert_eq!((found.psnr, found.left_out), (None, quality.left_out));
        let text = r#"{"pictures": 1, "skipped": 0, "psnr": 20.5, "ssim": 0.5, "later": 1}"#;
        std::fs::write(&path, text).unwrap();
        let found: Quality = read(&path).unwrap().unwrap();
        assert_eq!((found.psnr, found.left_out), (Some(20.5), Vec::new()));
        assert!(read::<Record>(&path).is_err());
    }

    #[test]
    fn days_have_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (789, "1972-02-29"),
            (11_016, "2000-02-29"),
            (20_819, "2027-01-01"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(days), expected);
        }
    }
}
