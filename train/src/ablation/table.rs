//! The table, as Markdown and as JSON.

use serde::Serialize;

use super::{
    TableSpec,
    plan::{Row, State},
    record::Figures,
};
use crate::{TokenizerConfig, metrics::UsageShare};

/// What all rows share: pictures with their count and digest, and settings.
pub(super) struct Protocol {
    pub(super) preset: String,
    pub(super) device: String,
    pub(super) shared: TokenizerConfig,
    pub(super) images: (u64, String),
    pub(super) eval: Option<(u64, String)>,
    pub(super) weights: Option<String>,
}

/// What the rows of an ablation came to.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// How it was measured, in sentences.
    pub protocol: Vec<String>,
    /// Names and titles of the tables.
    pub titles: Vec<(String, String)>,
    /// The lines; a row that stands in two tables has two.
    pub lines: Vec<Line>,
    /// Each row once: how it differs from the others, and the command that does it again.
    pub rows: Vec<About>,
}

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The table's name.
    pub table: String,
    /// The row's name.
    pub row: String,
    /// N, entries of the codebook.
    pub codes: usize,
    /// D', numbers of a latent.
    pub dim: usize,
    /// Why there are no figures, where there are none.
    pub note: Option<String>,
    /// The figures.
    pub figures: Option<Figures>,
}

/// What a row is.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// Its name.
    pub row: String,
    /// The codebook it starts from.
    pub codebook: Option<String>,
    /// What it changes in the settings.
    pub set: Vec<String>,
    /// What does it again.
    pub command: String,
}

const HEAD: &str = "\
| table | row | N | D' | used, % | perplexity | plain pass: used, % | perplexity | PSNR, dB | SSIM | perceptual | FD-EffLite0 | left out |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

impl Table {
    pub(super) fn new(
        protocol: &Protocol,
        tables: &[TableSpec],
        rows: &[Row],
        command: &str,
    ) -> Self {
        let line = |table: &TableSpec, row: &Row| {
            let (note, figures) = match &row.state {
                State::Open => (Some("not done yet".into()), None),
                State::Begun => (Some("not finished yet".into()), None),
                State::Failed(why) => (Some(format!("failed: {why}")), None),
                State::Other(how) => (Some(format!("made with other settings: {how}")), None),
                State::Foreign(why) => (Some(format!("left alone: {why}")), None),
                State::Done(figures) => (None, Some((**figures).clone())),
            };
            Line {
                table: table.name.clone(),
                row: row.name.clone(),
                codes: row.config.model.n_codes,
                dim: row.config.model.embed_dim,
                note,
                figures,
            }
        };
        let lines = tables.iter().flat_map(|table| {
            let named = |name: &String| rows.iter().find(|row| row.name == *name);
            let found = table.rows.iter().filter_map(named);
            found.map(|row| line(table, row)).collect::<Vec<_>>()
        });
        let about = rows.iter().map(|row| About {
            row: row.name.clone(),
            codebook: row.book.as_ref().map(|book| book.name.clone()),
            set: row.set.clone(),
            command: format!("{command} --only {} --again", row.name),
        });
        let titles = tables
            .iter()
            .map(|table| (table.name.clone(), table.title.clone()));
        Self {
            protocol: sentences(protocol, rows),
            titles: titles.collect(),
            lines: lines.collect(),
            rows: about.collect(),
        }
    }

    /// The table as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = self.protocol.join("\n") + "\n\n";
        for (name, title) in &self.titles {
            text += &format!("- Table {name}: {title}\n");
        }
        text += "\n";
        text += HEAD;
        for line in &self.lines {
            text += &line.markdown();
        }
        text += "\nThe rows, and the command that does one again:\n\n";
        for row in &self.rows {
            let mut what: Vec<String> = Vec::new();
            what.extend(row.codebook.iter().map(|book| format!("codebook {book}")));
            what.extend(row.set.iter().cloned());
            let what = if what.is_empty() {
                "the settings as they are".into()
            } else {
                what.join(", ")
            };
            text += &format!("- {}: {}\n  `{}`\n", row.row, cell(&what), row.command);
        }
        text
    }
}

impl Line {
    fn markdown(&self) -> String {
        let start = format!(
            "| {} | {} | {} | {} |",
            cell(&self.table),
            self.row,
            grouped(self.codes as u64),
            self.dim
        );
        let Some(figures) = &self.figures else {
            let note = cell(self.note.as_deref().unwrap_or_default());
            return format!("{start} {note} | | | | | | | | |\n");
        };
        let usage = |share: &UsageShare| match share.tokens {
            0 => "| - | - ".to_owned(),
            _ => format!(
                "| {:.2} | {} ",
                100.0 * share.utilisation,
                grouped(share.perplexity.round() as u64)
            ),
        };
        let quality = figures.quality.as_ref();
        let number =
            |value: Option<f64>, digits| value.map_or("-".into(), |v| format!("{v:.digits$}"));
        let shown = [
            // Measured, and none: infinite.
            quality.map_or("-".into(), |q| match q.psnr {
                Some(psnr) => number(Some(psnr), 2),
                None => "inf".into(),
            }),
            number(quality.map(|q| q.ssim), 4),
            number(quality.and_then(|q| q.perceptual), 4),
            number(quality.and_then(|q| q.fd_efflite0), 0),
            quality.map_or("-".into(), |q| grouped(q.skipped)),
        ];
        format!(
            "{} {}{}| {} |\n",
            start.trim_end_matches(" |"),
            usage(&figures.usage.crops),
            usage(&figures.usage.plain),
            shown.join(" | ")
        )
    }
}

/// How it was measured.
fn sentences(protocol: &Protocol, rows: &[Row]) -> Vec<String> {
    let done: Vec<&Figures> = rows
        .iter()
        .filter_map(|row| match &row.state {
            State::Done(figures) => Some(&**figures),
            _ => None,
        })
        .collect();
    let config = &protocol.shared;
    let (run, data) = (&config.run, &config.data);
    let mut out = vec![
        format!(
            "{}: preset {}, {} steps of {} crops of {} pixels out of pictures whose short side is {} to {} times that, {} on {}, seed {}; \
the first {} steps without quantising{}.",
            made(&done),
            protocol.preset,
            grouped(run.steps),
            run.batch * run.accumulate,
            data.size,
            data.min_scale,
            data.max_scale,
            run.precision,
            protocol.device,
            run.seed,
            config.warm_start.steps,
            if config.warm_start.align {
                ", then the projector is fitted to the latents"
            } else {
                ""
            }
        ),
        format!(
            "{} pictures learnt from ({}){}.",
            learnt_from(&done, protocol.images.0),
            short(&protocol.images.1),
            left_out(done.iter().map(|figures| figures.unreadable as u64))
        ),
        format!(
            "Used entries and perplexity over {} tokens an entry of seeded crops of them, and over one plain pass.",
            config.watch.usage_tokens_per_code
        ),
    ];
    if let Some((files, digest)) = &protocol.eval {
        let measured = || done.iter().filter_map(|figures| figures.quality.as_ref());
        let pictures = span(measured().map(|quality| quality.pictures));
        out.push(format!(
            "Measured on {} ({}){}, centre crops of {} pixels, 8 bits a channel, means over pictures.",
            pictures.map_or(format!("{} files", grouped(*files)), |n| format!("{n} pictures")),
            short(digest),
            left_out(measured().map(|quality| quality.skipped)),
            data.eval_size
        ));
    }
    if let (Some(weights), Some(_)) = (&protocol.weights, &protocol.eval) {
        out.push(format!(
            "Perceptual distance and FD-EffLite0, a Fréchet distance and no FID, stand on EfficientNet-Lite0 ({}).",
            short(weights)
        ));
    }
    let mut books: Vec<String> = Vec::new();
    for row in rows {
        if let (Some(book), State::Done(figures)) = (&row.book, &row.state) {
            let digest = figures.codebook.as_deref().unwrap_or_default();
            let text = format!("{} {}", book.name, short(digest));
            if !books.contains(&text) {
                books.push(text);
            }
        }
    }
    if !books.is_empty() {
        out.push(format!("Codebooks: {}.", books.join(", ")));
    }
    out
}

/// When, and by which versions.
fn made(done: &[&Figures]) -> String {
    let range = |mut all: Vec<&str>| {
        all.sort_unstable();
        match (all.first(), all.last()) {
            (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
            (Some(only), _) => (*only).to_owned(),
            _ => String::new(),
        }
    };
    let date = range(done.iter().map(|figures| figures.date.as_str()).collect());
    let version = range(
        done.iter()
            .map(|figures| figures.version.as_str())
            .collect(),
    );
    if done.is_empty() {
        "Nothing is done yet".into()
    } else {
        format!("{date}, vqlc {version}")
    }
}

/// Of so many files, those that could be read.
fn learnt_from(done: &[&Figures], files: u64) -> String {
    let read = |figures: &&Figures| files.saturating_sub(figures.unreadable as u64);
    span(done.iter().map(read)).unwrap_or(grouped(files))
}

/// How many were left out, where some were.
fn left_out(counts: impl Iterator<Item = u64> + Clone) -> String {
    match span(counts.clone()) {
        Some(count) if counts.max() > Some(0) => format!(", {count} left out"),
        _ => String::new(),
    }
}

/// The number, or the least and the greatest; `None` of none.
fn span(numbers: impl Iterator<Item = u64> + Clone) -> Option<String> {
    let (least, most) = (numbers.clone().min()?, numbers.max()?);
    Some(if least == most {
        grouped(least)
    } else {
        format!("{} to {}", grouped(least), grouped(most))
    })
}

/// The first digits of a digest.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// `34816` as `34,816`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ablation::Quality, trainer::UsageReport};

    #[test]
    fn counts_are_told_as_one_number_or_a_range() {
        let told = |counts: &[u64]| left_out(counts.iter().copied());
        assert_eq!(told(&[]), "");
        assert_eq!(told(&[0, 0]), "");
        assert_eq!(told(&[2, 2]), ", 2 left out");
        assert_eq!(told(&[1200, 0]), ", 0 to 1,200 left out");
    }

    #[test]
    fn what_is_infinite_is_told_apart_from_what_was_not_measured() {
        let share = UsageShare {
            tokens: 10,
            utilisation: 0.5,
            perplexity: 8.0,
        };
        let quality = Quality {
            pictures: 3,
            skipped: 1,
            left_out: vec!["a.png: damaged".into()],
            psnr: None,
            ssim: 1.0,
            perceptual: None,
            fd_efflite0: None,
        };
        let told = |quality| {
            let figures = Figures {
                date: "2026-01-01".into(),
                version: "1".into(),
                steps: 4,
                codebook: None,
                usage: UsageReport {
                    plain: share,
                    crops: share,
                },
                quality,
                unreadable: 0,
            };
            let line = Line {
                table: "6".into(),
                row: "base".into(),
                codes: 16,
                dim: 8,
                note: None,
                figures: Some(figures),
            };
            line.markdown()
        };
        let start = "| 6 | base | 16 | 8 | 50.00 | 8 | 50.00 | 8 ";
        let columns = HEAD.lines().next().map(|line| line.matches('|').count());
        for (quality, end) in [
            (Some(quality), "| inf | 1.0000 | - | - | 1 |\n"),
            (None, "| - | - | - | - | - |\n"),
        ] {
            let line = told(quality);
            assert_eq!(line, format!("{start}{end}"));
            assert_eq!(Some(line.matches('|').count()), columns);
        }
    }
}
