//! What people see on stderr: notes, warnings and progress (a bar on a terminal, plain lines otherwise). Results go to stdout, see `text`.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::OutputArgs;
use crate::text;

/// Between two plain progress lines when stderr is not a terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Writes a line to stderr. A stderr that nobody reads any more is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A recorded or listed name as text: what is not UTF-8 or would steer the terminal is escaped.
pub(crate) fn shown(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Says things as loudly as `-q` and `-v` allow.
#[derive(Clone, Copy)]
pub(crate) struct Reporter {
    quiet: bool,
    verbose: bool,
}

impl Reporter {
    pub(crate) fn new(args: &OutputArgs) -> Self {
        Self {
            quiet: args.quiet,
            verbose: args.verbose,
        }
    }

    /// A line for people, not said with `-q`.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            say(line);
        }
    }

    /// A line said with `-v` only.
    pub(crate) fn detail(&self, line: &str) {
        if self.verbose {
            say(line);
        }
    }

    /// Progress through the steps of a training run.
    pub(crate) fn steps(&self, total: u64) -> Steps {
        let bar = if self.quiet || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let bar = ProgressBar::new(total);
            bar.set_style(
                ProgressStyle::with_template(
                    "step {human_pos}/{human_len} [{bar:20}] {eta} left, {msg}",
                )
                .expect("the template is a constant")
                .progress_chars("=> "),
            );
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        };
        Steps {
            bar,
            quiet: self.quiet,
            total,
            first: None,
            said: None,
        }
    }

    /// Progress through `total` pictures of which `done` are there already.
    pub(crate) fn progress(&self, what: &'static str, total: u64, done: u64) -> Progress {
        let bar = if self.quiet || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let bar = ProgressBar::new(total).with_position(done);
            bar.set_style(style());
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        };
        bar.set_prefix(what);
        let now = Instant::now();
        let state = State {
            done,
            bytes: 0,
            said: now,
        };
        Progress {
            bar,
            quiet: self.quiet,
            what,
            total,
            first: done,
            start: now,
            state: Mutex::new(state),
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{bar:30}] {human_pos}/{human_len} {msg}, {eta} left")
        .expect("the template is a constant")
        .progress_chars("=> ")
}

struct State {
    done: u64,
    bytes: u64,
    said: Instant,
}

/// A running count of pictures and bytes; shared by threads.
pub(crate) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    what: &'static str,
    total: u64,
    first: u64,
    start: Instant,
    state: Mutex<State>,
}

impl Progress {
    /// Counts `pictures` more and the `bytes` of their picture files.
    pub(crate) fn advance(&self, pictures: u64, bytes: u64) {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        state.done += pictures;
        state.bytes += bytes;
        let seconds = self.start.elapsed().as_secs_f64().max(1e-9);
        let rate = (state.done - self.first) as f64 / seconds;
        let mut speed = format!("{rate:.1} pictures/s");
        if state.bytes > 0 {
            let megabytes = state.bytes as f64 / 1e6 / seconds;
            speed += &format!(", {megabytes:.1} MB/s");
        }
        if !self.bar.is_hidden() {
            self.bar.set_position(state.done);
            self.bar.set_message(speed);
        } else if !self.quiet && state.said.elapsed() >= PLAIN_EVERY {
            state.said = Instant::now();
            let left = (self.total.saturating_sub(state.done)) as f64 / rate.max(1e-9);
            say(&format!(
                "{} {} of {} pictures, {speed}, {} left",
                self.what,
                text::count(state.done),
                text::count(self.total),
                span(left),
            ));
        }
    }

    /// Counts pictures up to `done`.
    pub(crate) fn reach(&self, done: u64) {
        let counted = self
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .done;
        self.advance(done.saturating_sub(counted), 0);
    }

    /// A line that must be seen, above the bar and even with `-q`.
    pub(crate) fn warn(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// How far a training run is.
pub(crate) struct Steps {
    bar: ProgressBar,
    quiet: bool,
    total: u64,
    /// The first step told of, and when: what the time left is reckoned from.
    first: Option<(u64, Instant)>,
    said: Option<Instant>,
}

impl Steps {
    /// Step `step` is done; `text` are its losses.
    pub(crate) fn at(&mut self, step: u64, text: &str) {
        let (first, start) = *self.first.get_or_insert((step, Instant::now()));
        if !self.bar.is_hidden() {
            self.bar.set_position(step);
            self.bar.set_message(text.to_owned());
        } else if !self.quiet
            && (step == self.total || self.said.is_none_or(|said| said.elapsed() >= PLAIN_EVERY))
        {
            self.said = Some(Instant::now());
            let a_step = start.elapsed().as_secs_f64() / (step - first).max(1) as f64;
            let left = a_step * self.total.saturating_sub(step) as f64;
            let left = if step > first {
                format!(", {} left", span(left))
            } else {
                String::new()
            };
            say(&format!("step {step} of {}: {text}{left}", self.total));
        }
    }

    /// A line for people above the bar.
    pub(crate) fn note(&self, reporter: &Reporter, text: &str) {
        self.bar.suspend(|| reporter.note(text));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Seconds as people say them: `12 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn span(seconds: f64) -> String {
    let s = seconds.clamp(0.0, 1e9).round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(shown("grün/a b.png".as_bytes()), "grün/a b.png");
        assert_eq!(shown(b"\x1b[2Ja\n\xff.png"), "\\u{1b}[2Ja\\n\\xff.png");
    }

    #[test]
    fn spans_are_readable() {
        assert_eq!(span(0.4), "0 s");
        assert_eq!(span(185.0), "3 min 5 s");
        assert_eq!(span(7_800.0), "2 h 10 min");
        assert_eq!(span(f64::INFINITY), span(1e9));
    }
}
