//! The parts of the page that are made of pictures, which lie as text within it.

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{Markup, html};
use vqlc_model::image::{OutFormat, Rgb, write};
use vqlc_train::inspect::difference;

use super::gather::{Example, Gathered};
use crate::text;

/// High enough that what JPEG adds is far below what the codec does.
pub(super) const QUALITY: u8 = 92;

/// How much stronger than they are differences are shown.
const AMPLIFIED: u8 = 4;

/// The pictures that were chosen, and the worst.
pub(super) fn examples(gathered: &Gathered) -> anyhow::Result<Markup> {
    let chosen = comparisons(&gathered.chosen)?;
    let worst = comparisons(&gathered.worst)?;
    Ok(html! {
        @if !chosen.is_empty() {
            section aria-labelledby="pictures" {
                h2 id="pictures" { "Originals and reconstructions" }
                p {
                    "Original, reconstruction, and their difference: " span.math { "|a \u{2212} b|" }
                    " of every channel, times " (AMPLIFIED) "."
                }
                div.comparisons { @for one in chosen { (one) } }
            }
        }
        @if !worst.is_empty() {
            section aria-labelledby="worst" {
                h2 id="worst" { "The worst pictures" }
                p { "Those with the lowest PSNR of all that were measured, the lowest first." }
                div.comparisons { @for one in worst { (one) } }
            }
        }
    })
}

/// What is left when tokens are replaced by neighbours of their entries.
pub(super) fn replacement(gathered: &Gathered) -> anyhow::Result<Markup> {
    let Some(first) = gathered.replaced.first() else {
        return Ok(html! {});
    };
    let mut rows = Vec::new();
    for (at, name) in gathered.replaced_names.iter().enumerate() {
        let mut row = Vec::new();
        for replaced in &gathered.replaced {
            let rank = text::count(replaced.rank as u64);
            if let Some(picture) = replaced.shown.get(at) {
                let alt = format!("{name} with every token replaced by the entry of rank {rank}");
                row.push((rank, img(picture, &alt)?));
            }
        }
        rows.push((name, row));
    }
    Ok(html! {
        section aria-labelledby="replaced" {
            h2 id="replaced" { "Neighbours in the codebook" }
            p {
                "Every token is replaced by the entry that comes M-th when all entries are sorted by their distance from its own: M = 1 is "
                "the entry itself. Where neighbours look alike the codebook is laid out well. Means over "
                (text::things(first.pictures, "picture")) "."
            }
            div.scroll {
                table {
                    thead { tr { th scope="col" { "M" } @for r in &gathered.replaced { th scope="col" { (text::count(r.rank as u64)) } } } }
                    tbody {
                        tr { th scope="row" { "PSNR, dB" } @for r in &gathered.replaced { td { (format!("{:.2}", r.psnr)) } } }
                        tr { th scope="row" { "SSIM" } @for r in &gathered.replaced { td { (format!("{:.4}", r.ssim)) } } }
                    }
                }
            }
            @for (name, row) in rows {
                figure.ranks {
                    div.row { @for (rank, picture) in row { div { (picture) p { "M = " (rank) } } } }
                    figcaption { bdi { (name) } }
                }
            }
        }
    })
}

/// Original, reconstruction and difference of each; the script makes a slider of the first two.
fn comparisons(examples: &[Example]) -> anyhow::Result<Vec<Markup>> {
    let mut figures = Vec::new();
    for one in examples {
        let name = &one.name;
        let original = img(&one.original, &format!("Original of {name}"))?;
        let made = img(&one.made, &format!("Reconstruction of {name}"))?;
        let apart = difference(&one.original, &one.made, AMPLIFIED)?;
        let apart = img(
            &apart,
            &format!("Difference of {name} and its reconstruction"),
        )?;
        figures.push(html! {
            figure.comparison {
                div.pictures {
                    div.original { (original) p { "original" } }
                    div.made { (made) p { "reconstruction" } }
                    div.apart { (apart) p { "difference \u{d7} " (AMPLIFIED) } }
                }
                figcaption {
                    bdi { (name) }
                    span.scores { (format!("{:.2} dB, SSIM {:.3}", one.scores.psnr, one.scores.ssim)) }
                }
            }
        });
    }
    Ok(figures)
}

/// An `img` that holds its picture, JPEG without chroma subsampling, and says what it shows.
fn img(picture: &Rgb, alt: &str) -> anyhow::Result<Markup> {
    let mut bytes = Vec::new();
    write(picture, OutFormat::Jpeg { quality: QUALITY }, &mut bytes)
        .context("a picture for the page")?;
    let data = format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes));
    Ok(html! { img src=(data) width=(picture.width) height=(picture.height) alt=(alt); })
}
