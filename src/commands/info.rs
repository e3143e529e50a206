//! `vqlc info`: what a token file holds.

use std::{io::Write, path::PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use vqlc_format::{Grid, TokenFile, records};
use vqlc_model::image::{Fit, Preprocessing};

use crate::{
    cli::OutputArgs,
    default_model,
    exit::Exit,
    report::shown,
    same_model::{self, Comparison},
    text,
};

const EXAMPLES: &str = "\
Only the header and the small sections are read; whether every byte is right is what `vqlc validate` says.

Examples:
  vqlc info train.vqt
  vqlc info --json train.vqt | jq .classes";

/// `vqlc info FILE`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InfoArgs {
    /// A token file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    out: OutputArgs,
}

/// What is said of a file. Names that are not UTF-8 are shown with escapes.
#[derive(Serialize)]
struct Info {
    file: String,
    version: String,
    bytes: u64,
    content: String,
    codebook_size: u32,
    bits_per_id: u32,
    /// Rows and columns of ids; absent if it varies.
    grid: Option<[u32; 2]>,
    pictures: u64,
    views: Vec<String>,
    records: u64,
    records_per_block: u32,
    blocks: u64,
    id_bytes: u64,
    names: bool,
    sizes: bool,
    /// Class names in order of their numbers; absent if the file has no labels.
    classes: Option<Vec<String>>,
    digests: same_model::Shown,
    /// Whether the model embedded in this program gives these ids their meaning.
    embedded_model_matches: bool,
    preprocessing: serde_json::Value,
    /// Bits of the whole file for each pixel that decompressing brings back; absent if that number is not known or 0.
    bits_per_pixel: Option<f64>,
    sections: Vec<Section>,
}

#[derive(Serialize)]
struct Section {
    kind: &'static str,
    offset: u64,
    bytes: u64,
}

pub(crate) fn run(args: InfoArgs) -> anyhow::Result<Exit> {
    let context = || args.file.display().to_string();
    let file = TokenFile::open(&args.file).with_context(context)?;
    let info = gather(args.file.display().to_string(), &file).with_context(context)?;
    if args.out.json {
        text::print_json(&info)?;
    } else {
        print(&info, args.out.verbose)?;
    }
    Ok(Exit::Ok)
}

fn gather<D: AsRef<[u8]>>(name: String, file: &TokenFile<D>) -> anyhow::Result<Info> {
    let header = file.header();
    let sections: Vec<Section> = header.sections[..header.section_count as usize]
        .iter()
        .map(|entry| Section {
            kind: section_name(entry.kind),
            offset: entry.offset,
            bytes: entry.length,
        })
        .collect();
    // A record that another program wrote is no reason to say nothing at all.
    let preprocessing = Preprocessing::from_bytes(file.preprocessing()).ok();
    let pixels = preprocessing
        .as_ref()
        .map(|record| pixels_back(file, record))
        .transpose()?
        .flatten();
    let digests = file.digests();
    Ok(Info {
        file: name,
        version: format!("{}.{}", header.version_major, header.version_minor),
        bytes: header.file_length,
        content: file.content().to_string(),
        codebook_size: file.codebook_size(),
        bits_per_id: file.bits(),
        grid: match file.grid() {
            Grid::Fixed { rows, cols } => Some([rows, cols]),
            Grid::Varying => None,
        },
        pictures: file.pictures(),
        views: file.views().to_vec(),
        records: file.len(),
        records_per_block: header.records_per_block,
        blocks: header.blocks,
        id_bytes: id_bytes(file.header(), file.grid()),
        names: sections.iter().any(|section| section.kind == "names"),
        sizes: sections.iter().any(|section| section.kind == "sizes"),
        classes: file
            .classes()
            .map(|classes| classes.iter().map(|class| shown(class)).collect()),
        digests: same_model::Shown::new(digests),
        embedded_model_matches: Comparison::of(digests, &default_model::digests(None)?).same_ids(),
        preprocessing: serde_json::from_slice(file.preprocessing())
            .unwrap_or(serde_json::Value::Null),
        bits_per_pixel: pixels
            .filter(|&pixels| pixels > 0)
            .map(|pixels| 8.0 * header.file_length as f64 / pixels as f64),
        sections,
    })
}

fn section_name(kind: u32) -> &'static str {
    match kind {
        records::METADATA => "metadata",
        records::CLASSES => "classes",
        records::BLOCKS => "blocks",
        records::INDEX => "index",
        records::LABELS => "labels",
        records::NAMES => "names",
        records::SIZES => "sizes",
        _ => "unknown",
    }
}

/// Bytes of packed ids: the blocks without their headers and record tables.
fn id_bytes(header: &records::Header, grid: Grid) -> u64 {
    let blocks = header
        .sections
        .iter()
        .find(|entry| entry.kind == records::BLOCKS)
        .map_or(0, |entry| entry.length);
    let table = match grid {
        Grid::Fixed { .. } => 0,
        Grid::Varying => header
            .records
            .saturating_mul(records::RecordEntry::LEN as u64),
    };
    blocks
        .saturating_sub(
            header
                .blocks
                .saturating_mul(records::BlockHeader::LEN as u64),
        )
        .saturating_sub(table)
}

/// Pixels of all views that decompressing brings back, if the file says enough to know.
fn pixels_back<D: AsRef<[u8]>>(
    file: &TokenFile<D>,
    record: &Preprocessing,
) -> anyhow::Result<Option<u64>> {
    let views = file.views().len() as u64;
    if let Fit::Crop { size } = record.fit() {
        return Ok(Some(
            file.pictures() * views * u64::from(size) * u64::from(size),
        ));
    }
    let mut pixels = 0u64;
    for picture in 0..file.pictures() {
        let Some((width, height)) = file.size(picture)? else {
            return Ok(None);
        };
        let (width, height) = record.content_size(width, height);
        pixels = pixels.saturating_add(views * u64::from(width) * u64::from(height));
    }
    Ok(Some(pixels))
}

fn print(info: &Info, verbose: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut line = |key: &str, value: &str| writeln!(out, "{key:<14} {value}");
    line(
        "file",
        &format!(
            "{} ({}, format {})",
            info.file,
            text::bytes(info.bytes),
            info.version
        ),
    )?;
    line("content", &info.content)?;
    line(
        "pictures",
        &format!(
            "{}, {} a picture: {}",
            text::count(info.pictures),
            text::things(info.views.len() as u64, "view"),
            info.views.join(", ")
        ),
    )?;
    let grid = info.grid.map_or_else(
        || "a grid for each".into(),
        |[rows, cols]| format!("{rows} x {cols} ids each"),
    );
    line(
        "records",
        &format!(
            "{}, {grid}, in {}",
            text::count(info.records),
            text::things(info.blocks, "block")
        ),
    )?;
    line(
        "ids",
        &format!(
            "below {}, {} bits each, {} in all",
            text::count(info.codebook_size.into()),
            info.bits_per_id,
            text::bytes(info.id_bytes)
        ),
    )?;
    if let Some(bits) = info.bits_per_pixel {
        line(
            "bits a pixel",
            &format!("{bits:.4} (the whole file over the pixels that come back)"),
        )?;
    }
    line("names", if info.names { "yes" } else { "no" })?;
    line("sizes", if info.sizes { "yes" } else { "no" })?;
    line(
        "classes",
        &classes_in_words(info.classes.as_deref(), verbose),
    )?;
    line("preprocessing", &info.preprocessing.to_string())?;
    for (key, digest) in ["digests", "", "", ""].iter().zip(info.digests.lines()) {
        line(key, &digest)?;
    }
    line(
        "model",
        if info.embedded_model_matches {
            "the one embedded in this program"
        } else {
            "not the one embedded in this program"
        },
    )?;
    if verbose {
        for section in &info.sections {
            line(
                "section",
                &format!(
                    "{} at byte {}, {}",
                    section.kind,
                    section.offset,
                    text::things(section.bytes, "byte")
                ),
            )?;
        }
    }
    Ok(())
}

fn classes_in_words(classes: Option<&[String]>, all: bool) -> String {
    const SOME: usize = 10;
    let Some(classes) = classes else {
        return "no labels".into();
    };
    let listed = if all {
        classes.len()
    } else {
        classes.len().min(SOME)
    };
    let more = if listed < classes.len() {
        ", ... (-v lists all)"
    } else {
        ""
    };
    format!(
        "{}: {}{more}",
        text::count(classes.len() as u64),
        classes[..listed].join(", ")
    )
}
