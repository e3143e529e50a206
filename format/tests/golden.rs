//! Golden files: `fixtures/vqt/v1.0/good` holds a file of each kind with all that it says beside it as JSON,
//! `fixtures/vqt/v1.0/bad` files that must be refused, with the error that must come in `errors.txt`.
//! They never change once their version is released.
//!
//! Where one is missing, run this test with `VQLC_WRITE_GOLDEN=1` in the environment: it writes what is not there yet (and
//! never overwrites), and fails so that nobody takes that for a passed test.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::render::render;
use common::reseal::{Anatomy, field, get, set};
use common::{ALL, expect_whole, kinds};
use vqlc_format::records::{
    BlockHeader, CLASSES, Field, Footer, Header, INDEX, IndexEntry, LABELS, METADATA, NAMES,
    RecordEntry, SectionEntry, TextHeader,
};
use vqlc_format::{Error, TokenFile};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/vqt/v1.0")
        .join(name)
}

/// Compares what is made today with a golden file, or writes it where it is missing and that is asked for.
fn hold_against(path: &Path, today: &[u8], wrote: &mut bool) {
    if !path.exists() && std::env::var_os("VQLC_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, today).unwrap();
        *wrote = true;
    }
    let golden = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        golden == today,
        "{} is not what is written today",
        path.display()
    );
}

fn files_in(folder: &Path, extension: &str) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = entries
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    names
}

fn put(bytes: &mut [u8], start: usize, fields: &[Field], name: &str, value: u64) {
    let field = field(fields, name);
    set(bytes, start + field.offset, field.size, value);
}

/// A file of a newer minor version, with optional features and spare bytes that a reader of today does not know.
fn newer_minor(bytes: &[u8]) -> Vec<u8> {
    let mut newer = bytes.to_vec();
    put(&mut newer, 0, Header::FIELDS, "version_minor", 9);
    put(&mut newer, 0, Header::FIELDS, "optional_flags", 0x8000_0001);
    newer[field(Header::FIELDS, "spare").offset] = 1;
    Anatomy::of(bytes).reseal(&mut newer);
    newer
}

#[test]
fn good_files_are_written_and_read_as_ever() {
    let (folder, mut wrote) = (folder("good"), false);
    let mut good = BTreeMap::new();
    for (kind, made) in kinds() {
        let bytes = made.to_bytes();
        if kind == "blocks" {
            good.insert("newer-minor", (newer_minor(&bytes), made.clone()));
        }
        good.insert(kind, (bytes, made));
    }
    for (name, (bytes, made)) in &good {
        // Names and class names are compressed: another release of zstd may write other bytes that say the same. Should one
        // do so, compare what the files say, and leave the golden files as they are.
        hold_against(&folder.join(format!("{name}.vqt")), bytes, &mut wrote);
        let file = TokenFile::open(&folder.join(format!("{name}.vqt"))).unwrap();
        expect_whole(&file, made);
        hold_against(
            &folder.join(format!("{name}.json")),
            render(&file).as_bytes(),
            &mut wrote,
        );
    }
    assert!(
        !wrote,
        "golden files were written; run again without VQLC_WRITE_GOLDEN"
    );
    let names: Vec<_> = good.keys().copied().collect();
    assert_eq!(
        files_in(&folder, "vqt"),
        names,
        "a golden file that no test looks at"
    );
}

/// Files that must be refused, each by one change to a good one, with all checksums right unless they are the change.
fn bad_files() -> BTreeMap<&'static str, Vec<u8>> {
    let kinds: BTreeMap<_, _> = kinds().into_iter().collect();
    let (fixed, varying) = (
        kinds["blocks"].to_bytes(),
        kinds["varying-blocks"].to_bytes(),
    );
    let anatomy = Anatomy::of(&fixed);
    let header = |name, value| {
        let mut bytes = fixed.clone();
        put(&mut bytes, 0, Header::FIELDS, name, value);
        anatomy.reseal(&mut bytes);
        bytes
    };
    let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fixed.clone();
        change(&mut bytes);
        anatomy.reseal(&mut bytes);
        bytes
    };
    let unsealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fixed.clone();
        change(&mut bytes);
        bytes
    };
    // A byte of the footer changed, with a right checksum.
    let in_footer = |at: usize| {
        let mut bytes = fixed.clone();
        let footer = anatomy.footer;
        bytes[footer + at] ^= 1;
        let crc = field(Footer::FIELDS, "crc32").offset;
        let sum = crc32fast::hash(&bytes[footer..footer + crc]);
        set(&mut bytes, footer + crc, 4, sum.into());
        bytes
    };
    let section_table = field(Header::FIELDS, "sections").offset;
    let (block, index) = (anatomy.blocks[1].0, anatomy.section(INDEX).unwrap().0);
    let second_entry = index + IndexEntry::LEN;
    let section = |kind| anatomy.section(kind).unwrap();

    let varying_anatomy = Anatomy::of(&varying);
    let sealed_varying = |change: &dyn Fn(&mut Vec<u8>, usize)| {
        let mut bytes = varying.clone();
        let (start, length) = varying_anatomy.blocks[0];
        // The record table ends the block.
        let records = field(BlockHeader::FIELDS, "records");
        let entries = get(&bytes, start + records.offset, records.size) as usize;
        change(&mut bytes, start + length - entries * RecordEntry::LEN);
        varying_anatomy.reseal(&mut bytes);
        bytes
    };
    BTreeMap::from([
        ("no-bytes", Vec::new()),
        ("cut-in-header", fixed[..700].to_vec()),
        ("cut-in-block", fixed[..block + 20].to_vec()),
        ("cut-by-one", fixed[..fixed.len() - 1].to_vec()),
        ("one-too-long", [fixed.as_slice(), &[0]].concat()),
        (
            "other-magic",
            unsealed(&|b| b[..8].copy_from_slice(b"\x89PNG\r\n\x1a\n")),
        ),
        ("line-ends-translated", unsealed(&|b| b.insert(4, 0x0D))),
        ("header-flip", unsealed(&|b| b[40] ^= 1)),
        ("footer-flip", unsealed(&|b| b[anatomy.footer + 40] ^= 1)),
        ("end-magic-flip", unsealed(&|b| *b.last_mut().unwrap() ^= 1)),
        ("metadata-flip", unsealed(&|b| b[section(METADATA).0] ^= 1)),
        (
            "class-names-flip",
            unsealed(&|b| b[section(CLASSES).0] ^= 1),
        ),
        ("index-flip", unsealed(&|b| b[index] ^= 1)),
        ("labels-flip", unsealed(&|b| b[section(LABELS).0] ^= 1)),
        ("names-flip", unsealed(&|b| b[section(NAMES).0] ^= 1)),
        ("block-header-flip", unsealed(&|b| b[block + 8] ^= 1)),
        (
            "block-ids-flip",
            unsealed(&|b| b[block + BlockHeader::LEN] ^= 1),
        ),
        ("version-2", header("version_major", 2)),
        ("required-feature", header("required_flags", 1 << 7)),
        ("no-codebook", header("codebook_size", 0)),
        ("bits-not-of-codebook", header("bits_per_id", 18)),
        ("no-views", header("views_per_picture", 0)),
        ("records-not-pictures", header("records", 13)),
        ("too-many-blocks", header("blocks", 1 << 40)),
        ("no-records-per-block", header("records_per_block", 0)),
        ("reserved-set", header("reserved", 1)),
        (
            "section-hole",
            sealed(&|b| put(b, section_table, SectionEntry::FIELDS, "length", 3)),
        ),
        (
            "section-past-the-end",
            sealed(&|b| {
                put(
                    b,
                    section_table,
                    SectionEntry::FIELDS,
                    "length",
                    u64::MAX - 100,
                )
            }),
        ),
        (
            "unknown-codec",
            sealed(&|b| {
                put(b, block, BlockHeader::FIELDS, "codec", 5);
                put(b, second_entry, IndexEntry::FIELDS, "codec", 5);
            }),
        ),
        (
            "block-of-another-number",
            sealed(&|b| put(b, block, BlockHeader::FIELDS, "number", 2)),
        ),
        (
            "block-misplaced",
            sealed(&|b| put(b, second_entry, IndexEntry::FIELDS, "offset", 1024)),
        ),
        (
            "index-counts-wrong",
            sealed(&|b| put(b, second_entry, IndexEntry::FIELDS, "records", 2)),
        ),
        (
            "payload-length-wrong",
            sealed(&|b| put(b, block, BlockHeader::FIELDS, "payload_length", 1 << 33)),
        ),
        // Ids of 17 bits start at bit 0 of a record: 131,071 is not below 100,000.
        (
            "id-too-large",
            sealed(&|b| b[block + BlockHeader::LEN..][..3].fill(0xFF)),
        ),
        // 6 ids of 17 bits are 102 bits: the last two bits of byte 12 are padding.
        (
            "padding-set",
            sealed(&|b| b[block + BlockHeader::LEN + 12] |= 0x80),
        ),
        (
            "label-too-large",
            sealed(&|b| set(b, section(LABELS).0, 4, 3)),
        ),
        (
            "names-miscounted",
            sealed(&|b| put(b, section(NAMES).0, TextHeader::FIELDS, "texts", 6)),
        ),
        (
            "names-garbled",
            sealed(&|b| b[section(NAMES).0 + TextHeader::LEN + 4..][..4].fill(0xFF)),
        ),
        (
            "metadata-count",
            sealed(&|b| set(b, section(METADATA).0, 8, u64::MAX)),
        ),
        ("digest-of-block", {
            let mut bytes = fixed.clone();
            bytes[second_entry + field(IndexEntry::FIELDS, "sha256").offset] ^= 1;
            anatomy.reseal_sections(&mut bytes);
            bytes
        }),
        (
            "digest-of-content",
            in_footer(field(Footer::FIELDS, "content").offset),
        ),
        // The footer's copy of the header is a header of another file.
        (
            "footer-of-another-header",
            in_footer(field(Header::FIELDS, "codebook_digest").offset),
        ),
        (
            "record-of-no-rows",
            sealed_varying(&|b, table| put(b, table, RecordEntry::FIELDS, "rows", 0)),
        ),
        (
            "record-too-large",
            sealed_varying(&|b, table| put(b, table, RecordEntry::FIELDS, "cols", 1 << 31)),
        ),
        // 4 x 2 and 2 x 4 ids take the same bytes, but views of one picture have one grid.
        (
            "views-of-two-grids",
            sealed_varying(&|b, table| {
                let second = table + RecordEntry::LEN;
                put(b, second, RecordEntry::FIELDS, "rows", 2);
                put(b, second, RecordEntry::FIELDS, "cols", 4);
            }),
        ),
        (
            "record-misplaced",
            sealed_varying(&|b, table| put(b, table, RecordEntry::FIELDS, "offset", 1 << 40)),
        ),
    ])
}

/// The error that opening or, where that succeeds, the check gives first.
fn verdict(path: &Path) -> String {
    let judge = |error: &Error| {
        let newer = matches!(
            error,
            Error::UnsupportedVersion { .. }
                | Error::RequiredFlags { .. }
                | Error::UnsupportedCodec { .. }
        );
        assert!(error.is_damage() || newer, "{error}");
        error.to_string()
    };
    match TokenFile::open(path) {
        Err(error) => format!("open: {}", judge(&error)),
        Ok(file) => {
            let report = file.check(&ALL);
            let problem = report.problems.first();
            let problem = problem.unwrap_or_else(|| panic!("{} passes the check", path.display()));
            format!("check: {}", judge(&problem.error))
        }
    }
}

#[test]
fn bad_files_get_the_error_that_must_come() {
    let (folder, mut wrote) = (folder("bad"), false);
    let bad = bad_files();
    let mut table = String::new();
    for (name, bytes) in &bad {
        let path = folder.join(format!("{name}.vqt"));
        hold_against(&path, bytes, &mut wrote);
        table += &format!("{name}: {}\n", verdict(&path));
    }
    let path = folder.join("errors.txt");
    if path.exists() {
        // Line by line, for a message that shows which one differs.
        let golden = fs::read_to_string(&path).unwrap();
        for (golden, today) in golden.lines().zip(table.lines()) {
            assert_eq!(golden, today);
        }
    }
    hold_against(&path, table.as_bytes(), &mut wrote);
    assert!(
        !wrote,
        "golden files were written; run again without VQLC_WRITE_GOLDEN"
    );
    let names: Vec<_> = bad.keys().copied().collect();
    assert_eq!(
        files_in(&folder, "vqt"),
        names,
        "a golden file that no test looks at"
    );
}
