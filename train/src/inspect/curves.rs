//! What a run wrote down of itself: `metrics.jsonl`, read again.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::Path,
};

use serde_json::{Map, Value};

use crate::{Error, Result, watch::LINE_LIMIT};

/// A curve of more points than this is thinned to at least half as many.
const POINTS: usize = 4096;
/// Numbers a line that are followed; no run writes as many.
const NAMES: usize = 256;
/// Characters of a phase's name that are kept; no run's is as long.
const PHASE: usize = 32;

/// A number as it was at a step, or the mean over neighbouring steps of a curve that was thinned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The step, or the mean step.
    pub step: f64,
    /// The number; finite.
    pub value: f64,
}

/// The numbers of a run, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    /// Each in the order of its steps, at most 4,096 points. What was not finite is left out.
    pub series: BTreeMap<String, Vec<Point>>,
    /// Where phases of the training begin: the first step of each and its name.
    pub phases: Vec<(u64, String)>,
}

/// Reads the `metrics.jsonl` of a run. The last line may be cut short: the run may still be going on.
///
/// # Errors
/// A file that cannot be read; a line that is no JSON object with a step, or without end; a file without lines.
pub fn read_curves(path: &Path) -> Result<Curves> {
    let io = |e| Error::io(path, e);
    let mut from = BufReader::new(File::open(path).map_err(io)?);
    let mut thinned: BTreeMap<String, Thinned> = BTreeMap::new();
    let mut phases: Vec<(u64, String)> = Vec::new();
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let mut limited = (&mut from).take(LINE_LIMIT);
        limited.read_until(b'\n', &mut line).map_err(io)?;
        if !line.ends_with(b"\n") && (line.len() as u64) < LINE_LIMIT {
            break;
        }
        let refused = |why: String| {
            Error::malformed(path, format!("line {number} holds no step of a run: {why}"))
        };
        let values: Map<String, Value> =
            serde_json::from_slice(&line).map_err(|e| refused(e.to_string()))?;
        let step = values.get("step").and_then(Value::as_u64);
        let step = step.ok_or_else(|| refused("no step".into()))?;
        if let Some(phase) = values.get("phase").and_then(Value::as_str)
            && phases.last().is_none_or(|(_, last)| last != phase)
            && phases.len() < NAMES
        {
            phases.push((step, phase.chars().take(PHASE).collect()));
        }
        for (name, value) in &values {
            let Some(value) = value.as_f64().filter(|v| v.is_finite() && name != "step") else {
                continue;
            };
            if let Some(curve) = thinned.get_mut(name) {
                curve.push(step as f64, value);
            } else if thinned.len() < NAMES {
                thinned
                    .entry(name.clone())
                    .or_default()
                    .push(step as f64, value);
            }
        }
    }
    if thinned.is_empty() {
        return Err(Error::malformed(path, "no numbers of a run in it"));
    }
    let series = thinned
        .into_iter()
        .map(|(name, curve)| (name, curve.points));
    Ok(Curves {
        series: series.collect(),
        phases,
    })
}

/// A curve of means over groups of points; groups become twice as large when there are too many.
#[derive(Default)]
struct Thinned {
    points: Vec<Point>,
    /// Points to a group, as a power of two.
    doublings: u32,
    /// Points in the last group.
    filled: u64,
}

impl Thinned {
    fn push(&mut self, step: f64, value: f64) {
        match self.points.last_mut() {
            Some(last) if self.filled < 1 << self.doublings => {
                self.filled += 1;
                let share = 1.0 / self.filled as f64;
                last.step += (step - last.step) * share;
                last.value += (value - last.value) * share;
            }
            _ => {
                if self.points.len() == POINTS {
                    self.halve();
                }
                self.points.push(Point { step, value });
                self.filled = 1;
            }
        }
    }

    /// Called when all groups are full.
    fn halve(&mut self) {
        let pairs = self.points.chunks_exact(2);
        self.points = pairs
            .map(|pair| Point {
                step: pair[0].step.midpoint(pair[1].step),
                value: pair[0].value.midpoint(pair[1].value),
            })
            .collect();
        self.doublings += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Curves> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, text).unwrap();
        read_curves(&path)
    }

    #[test]
    fn lines_become_curves() {
        let curves = read(
            "{\"step\":1,\"phase\":\"autoencoder\",\"loss\":2.0,\"lr\":1}\n\
             {\"step\":2,\"phase\":\"autoencoder\",\"loss\":null}\n\
             {\"step\":3,\"phase\":\"tokenizer\",\"loss\":1.5,\"note\":\"x\"}\n{\"step\":4,\"lo",
        )
        .unwrap();
        let point = |step, value| Point { step, value };
        let expected = [
            ("loss".to_owned(), vec![point(1.0, 2.0), point(3.0, 1.5)]),
            ("lr".to_owned(), vec![point(1.0, 1.0)]),
        ];
        assert_eq!(curves.series, BTreeMap::from(expected));
        let phases = [(1, "autoencoder".to_owned()), (3, "tokenizer".to_owned())];
        assert_eq!(curves.phases, phases);
    }

    #[test]
    fn long_curves_are_thinned_to_means() {
        let lines: String = (0..20_000)
            .map(|step| format!("{{\"step\":{step},\"loss\":{}}}\n", step % 2))
            .collect();
        let curve = &read(&lines).unwrap().series["loss"];
        assert_eq!(curve.len(), 20_000 / 8);
        // Each a mean over eight steps.
        for (at, point) in curve.iter().enumerate() {
            assert!((point.value - 0.5).abs() < 1e-9);
            assert!((point.step - (8.0 * at as f64 + 3.5)).abs() < 1e-6);
        }
    }

    #[test]
    fn what_no_run_wrote_is_refused() {
        for bad in [
            "",
            "notes\n",
            "[1]\n",
            "{\"loss\":1}\n",
            "{\"step\":\"a\"}\n",
            "{\"step\":1}\n",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read_curves(Path::new("not/there.jsonl")).is_err());
    }
}
