//! All that a token file says, as JSON with one key a line: what lies beside the golden files, and what the Python reader
//! prints too.

use std::fmt::Write;

use vqlc_format::{Digest, Grid, TokenFile};

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("\"".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    }) + "\""
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

fn optional(items: Option<Vec<String>>) -> String {
    items.map_or("null".into(), list)
}

pub fn render<D: AsRef<[u8]>>(file: &TokenFile<D>) -> String {
    let header = file.header();
    let digest = |digest: Digest| format!("\"{digest}\"");
    let mut ids = Vec::new();
    let (mut shapes, mut records) = (Vec::new(), Vec::new());
    for record in 0..file.len() {
        let (rows, cols) = file.get(record, &mut ids).unwrap();
        shapes.push(format!("[{rows}, {cols}]"));
        records.push(list(ids.iter().map(u32::to_string)));
    }
    let spec = file.spec();
    let pictures = 0..file.pictures();
    let labels = spec.classes.is_some().then(|| {
        let label = |picture| file.label(picture).unwrap();
        let text = |label: Option<u32>| label.map_or("null".into(), |label| label.to_string());
        pictures.clone().map(label).map(text).collect()
    });
    let sizes = spec.sizes.then(|| {
        let size = |picture| file.size(picture).unwrap().unwrap();
        pictures
            .map(size)
            .map(|(width, height)| format!("[{width}, {height}]"))
            .collect()
    });
    let names = spec
        .names
        .then(|| file.names().map(|name| hex(&name.unwrap())).collect());
    let classes = file
        .classes()
        .map(|classes| classes.iter().map(|class| hex(class)).collect());
    let grid = match file.grid() {
        Grid::Fixed { rows, cols } => format!("[{rows}, {cols}]"),
        Grid::Varying => "null".into(),
    };
    let lines = [
        (
            "version",
            format!("\"{}.{}\"", header.version_major, header.version_minor),
        ),
        ("codebook_size", file.codebook_size().to_string()),
        ("bits_per_id", file.bits().to_string()),
        ("grid", grid),
        ("records", file.len().to_string()),
        ("pictures", file.pictures().to_string()),
        (
            "views",
            list(file.views().iter().map(|view| format!("\"{view}\""))),
        ),
        ("preprocessing", hex(file.preprocessing())),
        ("codebook", digest(file.digests().codebook)),
        ("encoder", digest(file.digests().encoder)),
        ("decoder", digest(file.digests().decoder)),
        ("source", digest(file.digests().source)),
        ("content", digest(file.content())),
        ("shapes", list(shapes)),
        ("ids", list(records)),
        ("labels", optional(labels)),
        ("sizes", optional(sizes)),
        ("classes", optional(classes)),
        ("names", optional(names)),
    ];
    let lines = lines.map(|(key, value)| format!("\"{key}\": {value}"));
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}
