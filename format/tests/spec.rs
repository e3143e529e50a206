//! SPEC.md against the code: its field tables, its numbers, and its example against the writer and a golden file.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use vqlc_format::records::{
    BLOCK_MAGIC, BlockHeader, ChunkEntry, END_MAGIC, Field, Footer, Header, IndexEntry, MAGIC,
    RecordEntry, SectionEntry, TextHeader,
};
use vqlc_format::{Digest, Digests, Grid, MIN_FILE, Picture, Spec, TokenFile, Writer};

fn root(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn spec_text() -> String {
    fs::read_to_string(root("SPEC.md")).unwrap()
}

/// The cells of the table that the comment `<!-- table: NAME -->` announces.
fn table(text: &str, name: &str) -> Vec<(usize, usize, String, String)> {
    let (_, rest) = text
        .split_once(&format!("<!-- table: {name} -->\n"))
        .expect(name);
    let rows = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        (
            cells[1].parse().unwrap(),
            cells[2].parse().unwrap(),
            cells[3].into(),
            cells[4].into(),
        )
    })
    .collect()
}

#[test]
fn field_tables_are_the_codes() {
    let text = spec_text();
    let tables: [(&str, &[Field], usize); 8] = [
        ("Header", Header::FIELDS, Header::LEN),
        ("SectionEntry", SectionEntry::FIELDS, SectionEntry::LEN),
        ("BlockHeader", BlockHeader::FIELDS, BlockHeader::LEN),
        ("RecordEntry", RecordEntry::FIELDS, RecordEntry::LEN),
        ("IndexEntry", IndexEntry::FIELDS, IndexEntry::LEN),
        ("TextHeader", TextHeader::FIELDS, TextHeader::LEN),
        ("ChunkEntry", ChunkEntry::FIELDS, ChunkEntry::LEN),
        ("Footer", Footer::FIELDS, Footer::LEN),
    ];
    assert_eq!(text.matches("<!-- table: ").count(), tables.len());
    for (name, fields, length) in tables {
        let rows = table(&text, name);
        let found: Vec<_> = rows
            .iter()
            .map(|(at, size, name, _)| (*at, *size, name.as_str()))
            .collect();
        let expected: Vec<_> = fields
            .iter()
            .map(|field| (field.offset, field.size, field.name))
            .collect();
        assert_eq!(found, expected, "{name}");
        let last = fields.last().unwrap();
        assert_eq!(last.offset + last.size, length, "{name}");
    }
}

#[test]
fn magics_and_lengths_are_the_codes() {
    let text = spec_text();
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    for (name, magic) in [
        ("Header", MAGIC),
        ("BlockHeader", BLOCK_MAGIC),
        ("Footer", END_MAGIC),
    ] {
        let (_, _, _, meaning) = table(&text, name)
            .into_iter()
            .find(|row| row.2 == "magic")
            .unwrap();
        assert_eq!(meaning, hex(&magic), "{name}");
    }
    assert!(
        text.contains(&format!("At least {MIN_FILE} bytes")),
        "MIN_FILE is {MIN_FILE}"
    );
    assert_eq!(
        (Header::LEN, Footer::LEN, BlockHeader::LEN),
        (1024, 1072, 48)
    );
}

/// The bytes that the hexdump shows.
fn hexdump_bytes(text: &str) -> Vec<u8> {
    let (_, rest) = text.split_once("```hexdump\n").unwrap();
    let (dump, _) = rest.split_once("```").unwrap();
    let (mut bytes, mut repeat) = (Vec::new(), false);
    for line in dump.lines() {
        if line == "*" {
            repeat = true;
            continue;
        }
        let (offset, cells) = line.split_once("  ").unwrap_or((line, ""));
        let offset = usize::from_str_radix(offset, 16).unwrap();
        while repeat && bytes.len() < offset {
            bytes.extend_from_within(bytes.len() - 16..);
        }
        repeat = false;
        assert_eq!(bytes.len(), offset);
        let cells = cells.split_once('|').map_or(cells, |(cells, _)| cells);
        bytes.extend(
            cells
                .split_whitespace()
                .map(|cell| u8::from_str_radix(cell, 16).unwrap()),
        );
    }
    bytes
}

/// The example, as the text above the hexdump describes it.
fn example() -> Vec<u8> {
    let spec = Spec {
        codebook_size: 5,
        grid: Grid::Fixed { rows: 1, cols: 3 },
        views: vec!["center".into()],
        records_per_block: None,
        digests: Digests {
            codebook: Digest([1; 32]),
            encoder: Digest([2; 32]),
            decoder: Digest([3; 32]),
            source: Digest([4; 32]),
        },
        preprocessing: b"{}".to_vec(),
        classes: Some(vec![b"a".to_vec()]),
        names: false,
        sizes: true,
    };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("example.vqt");
    let mut writer = Writer::create(&path, &spec, Digest::default(), false).unwrap();
    for (position, (ids, label, (width, height))) in
        [([0, 1, 2], Some(0), (640, 480)), ([3, 4, 0], None, (1, 2))]
            .into_iter()
            .enumerate()
    {
        let picture = Picture {
            name: b"",
            label,
            width,
            height,
            rows: 1,
            cols: 3,
            ids: &ids,
        };
        writer.push(position as u64, &picture).unwrap();
    }
    writer.finish(2).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn the_example_is_what_the_writer_writes_and_the_golden_file() {
    let bytes = example();
    assert_eq!(hexdump_bytes(&spec_text()), bytes);
    assert_eq!(
        fs::read(root("fixtures/vqt/spec-example.vqt")).unwrap(),
        bytes
    );
    let file = TokenFile::new(bytes).unwrap();
    let mut ids = Vec::new();
    assert_eq!(file.get(1, &mut ids).unwrap(), (1, 3));
    assert_eq!(ids, [3, 4, 0]);
    assert_eq!(
        (file.label(0).unwrap(), file.label(1).unwrap()),
        (Some(0), None)
    );
    assert_eq!(file.size(0).unwrap(), Some((640, 480)));
    assert_eq!(file.classes().unwrap(), [b"a"]);
}
