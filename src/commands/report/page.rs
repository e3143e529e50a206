//! The page. What comes from files and folders is text to `maud`, which escapes it.

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use vqlc_model::{digest::hex, file::ModelFile};
use vqlc_train::{
    inspect::{Curves, Plane},
    metrics::Usage,
};

use super::{charts, gallery, gallery::QUALITY, gather::Gathered};
use crate::{
    rate::{CURVE, RatePoint},
    report::shown,
    text,
};

const STYLE: &str = include_str!("style.css");
const SLIDER: &str = include_str!("slider.js");

/// The page may load nothing, wherever it is opened.
const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Numbers of a run that are no curves to look at.
const NO_CURVES: [&str; 5] = ["steps", "tokens", "images_per_s", "data_wait", "seconds"];

/// What the page is made of.
pub(super) struct Page<'a> {
    pub(super) model: &'a ModelFile,
    /// `None`: the embedded model.
    pub(super) model_path: Option<&'a Path>,
    pub(super) gathered: &'a Gathered,
    pub(super) rates: &'a [RatePoint],
    /// How the other codecs were used.
    pub(super) programs: &'a [String],
    /// `None`: of one entry there is no map.
    pub(super) plane: Option<&'a Plane>,
    pub(super) curves: Option<&'a Curves>,
}

impl Page<'_> {
    pub(super) fn html(&self) -> anyhow::Result<Markup> {
        let name = self.model_name();
        let found = &self.gathered.evaluation;
        let pictures = text::things(found.comparison.pictures, "picture");
        Ok(html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { "vqlc: " (name) ", " (pictures) }
                    link rel="icon" href="data:,";
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        p.kicker { "vqlc report" }
                        h1 { bdi { (name) } }
                        p.lead {
                            "What the tokenizer keeps of " (pictures) ", each as "
                            (self.grid()) " out of a codebook of "
                            (text::count(self.model.config().n_codes as u64)) "."
                        }
                        (self.tiles())
                    }
                    main {
                        (self.measured())
                        (gallery::examples(self.gathered)?)
                        (self.rate())
                        (self.codebook())
                        (gallery::replacement(self.gathered)?)
                        @if let Some(curves) = self.curves { (training(curves)) }
                    }
                    footer {
                        p {
                            "Written by " (found.protocol.program) ". Pictures are embedded as JPEG of quality " (QUALITY)
                            " without chroma subsampling; all figures are of the pixels before that. This file loads nothing from elsewhere."
                        }
                    }
                    script { (PreEscaped(SLIDER)) }
                }
            }
        })
    }

    fn model_name(&self) -> String {
        self.model_path.map_or_else(
            || "The embedded model".into(),
            |path| {
                let name = path.file_name().unwrap_or(path.as_os_str());
                shown(name.as_encoded_bytes())
            },
        )
    }

    /// Ids of a picture.
    fn grid(&self) -> String {
        let found = &self.gathered.evaluation;
        let pictures = found.comparison.pictures.max(1);
        text::things(found.tokens.unwrap_or(0) / pictures, "id")
    }

    /// The figures to know first.
    fn tiles(&self) -> Markup {
        let found = &self.gathered.evaluation;
        let mean = &found.comparison.mean;
        let usage = &self.gathered.evaluation.usage;
        let tiles = [
            (
                "bits per pixel",
                format!("{:.4}", found.bits_per_pixel.unwrap_or(f64::NAN)),
            ),
            ("dB PSNR", format!("{:.2}", mean.psnr)),
            ("SSIM", format!("{:.3}", mean.ssim)),
            ("of the codebook used", percent(usage.share())),
        ];
        html! {
            dl.tiles {
                @for (name, value) in tiles {
                    div { dt { (name) } dd { (value) } }
                }
            }
        }
    }

    /// What was measured, how, and all figures.
    fn measured(&self) -> Markup {
        let found = &self.gathered.evaluation;
        let digests = self.model.digests();
        let config = self.model.config();
        let digests = [
            ("Codebook", &digests.codebook),
            ("Encoder", &digests.encoder),
            ("Decoder", &digests.decoder),
            ("Source", &digests.source),
        ];
        html! {
            section aria-labelledby="measured" {
                h2 id="measured" { "What was measured" }
                div.columns {
                    div.scroll {
                        table {
                            caption { "Means over " (text::things(found.comparison.pictures, "picture")) }
                            thead { tr { th scope="col" { "Figure" } th scope="col" { "Value" } } }
                            tbody {
                                @for (name, value) in found.comparison.rows() {
                                    tr { th scope="row" { (name) } td { (value) } }
                                }
                                @if let Some(bits) = found.bits_per_pixel {
                                    tr { th scope="row" { "Rate" } td { (format!("{bits:.4} bits per pixel")) } }
                                }
                                tr { th scope="row" { "Entries used" } td { (used(&self.gathered.evaluation.usage)) } }
                            }
                        }
                    }
                    dl.facts {
                        dt { "Model" }
                        dd {
                            bdi { (self.model_name()) } ", "
                            (format!("{:.2}", self.model.network_parameters() as f64 / 1e6)) " million parameters, "
                            (text::count(config.n_codes as u64)) " entries of " (config.embed_dim) " numbers, "
                            (config.factor()) " pixels a side for a token"
                        }
                        @if !self.model.provenance().is_empty() {
                            dt { "Provenance" }
                            dd { (shown(self.model.provenance().as_bytes())) }
                        }
                        dt { "Protocol" }
                        dd { (found.protocol) }
                    }
                }
                details {
                    summary { "SHA-256 digests" }
                    dl.digests {
                        @for (part, digest) in digests {
                            dt { (part) }
                            dd { @if digest == &[0; 32] { "not known" } @else { code { (hex(digest)) } } }
                        }
                        @for file in &found.protocol.weights {
                            dt { "Weights of " (file.network) }
                            dd { code { (file.sha256) } }
                        }
                    }
                }
                @if !found.left_out.is_empty() {
                    details {
                        summary { (text::things(found.left_out.len() as u64, "picture")) " left out" }
                        ul { @for name in &found.left_out { li { bdi { (name) } } } }
                    }
                }
            }
        }
    }

    fn rate(&self) -> Markup {
        let others = self.rates.iter().any(|point| point.codec != charts::OWN);
        html! {
            section aria-labelledby="rate" {
                h2 id="rate" { "Rate and distortion" }
                p {
                    "Bits are those of the packed ids; names, labels and checksums of a token file are not counted."
                    @if others {
                        " The other codecs' bits are those of their whole files, as near as each can come to " (CURVE.map(text::count).join(", ")) " times the size of the ids."
                    } @else {
                        " No other codec was measured beside it."
                    }
                }
                div.charts {
                    figure { (charts::rate("rate-psnr", "PSNR against rate", "PSNR, dB", self.rates, |p| p.comparison.mean.psnr)) }
                    figure { (charts::rate("rate-ssim", "SSIM against rate", "SSIM", self.rates, |p| p.comparison.mean.ssim)) }
                }
                details {
                    summary { "The points as a table" }
                    div.scroll {
                        table {
                            thead {
                                tr {
                                    th scope="col" { "Codec" } th scope="col" { "Pictures" }
                                    th scope="col" { "Bits per pixel" } th scope="col" { "PSNR, dB" } th scope="col" { "SSIM" }
                                }
                            }
                            tbody {
                                @for point in self.rates {
                                    tr {
                                        th scope="row" { (point.codec) } td { (point.comparison.pictures) }
                                        td { (format!("{:.4}", point.bits_per_pixel)) }
                                        td { (format!("{:.2}", point.comparison.mean.psnr)) } td { (format!("{:.4}", point.comparison.mean.ssim)) }
                                    }
                                }
                            }
                        }
                    }
                }
                @if !self.programs.is_empty() {
                    details {
                        summary { "The programs" }
                        ul { @for program in self.programs { li { (shown(program.as_bytes())) } } }
                    }
                }
            }
        }
    }

    fn codebook(&self) -> Markup {
        let usage = &self.gathered.evaluation.usage;
        html! {
            section aria-labelledby="codebook" {
                h2 id="codebook" { "The codebook" }
                p {
                    (text::things(usage.tokens(), "token")) " chose " (used(usage)) "; perplexity "
                    (text::count(usage.perplexity().round() as u64)) "."
                    @if usage.tokens() < 100 * usage.counts().len() as u64 {
                        " How much of a codebook is used is counted over 100 tokens an entry: " code { "vqlc train usage" } " does that."
                    }
                }
                div.charts {
                    figure {
                        (charts::histogram(usage))
                        figcaption { "Tokens that chose each entry, the most used entries first." }
                    }
                    @if let Some(plane) = self.plane {
                        figure {
                            (charts::map(plane, usage))
                            figcaption {
                                ul.legend {
                                    li.used { "used" }
                                    li.unused { "not used" }
                                }
                                "The projected codebook on its two principal axes (PCA), which show "
                                (percent(plane.shares[0])) " and " (percent(plane.shares[1])) " of its variance. "
                                (charts::drawn_of(plane.points.len() as u64))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `2,000 of 100,000 entries (2.0 %)`.
fn used(usage: &Usage) -> String {
    format!(
        "{} of {} entries ({})",
        text::count(usage.used() as u64),
        text::count(usage.counts().len() as u64),
        percent(usage.share())
    )
}

/// A share in words; not none where there is something.
fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.0005 {
        "below 0.1 %".into()
    } else {
        format!("{:.1} %", 100.0 * share)
    }
}

/// The curves of a run: all its numbers that change, the loss first.
fn training(curves: &Curves) -> Markup {
    let mut shown_ones: Vec<_> = curves
        .series
        .iter()
        .filter(|(name, points)| {
            let changes = points.iter().any(|point| point.value != points[0].value);
            changes && !NO_CURVES.contains(&name.as_str())
        })
        .collect();
    shown_ones.sort_by_key(|(name, _)| name.as_str() != "loss");
    if shown_ones.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="training" {
            h2 id="training" { "The training" }
            p { "What the run wrote down of itself, over its steps." }
            div.charts {
                @for (number, (name, points)) in shown_ones.into_iter().enumerate() {
                    @let title = shown(name.replace('_', " ").as_bytes());
                    figure {
                        h3 { (title) }
                        (charts::curve(number, &title, points, &curves.phases))
                    }
                }
            }
        }
    }
}
