//! No file, however hostile, makes a reader allocate more than max(16 MiB, one block) at once: an allocator that keeps count
//! watches while files with every number changed, and every checksum made right again, are opened, checked and read.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::reseal::{Anatomy, field, get, set};
use common::{ALL, Made, Random, kinds};
use vqlc_format::records::{
    BlockHeader, CLASSES, ChunkEntry, Field, Header, INDEX, IndexEntry, LABELS, METADATA, NAMES,
    RecordEntry, SIZES, SectionEntry, TextHeader,
};
use vqlc_format::{CheckOptions, TokenFile, recover, survey};

/// The blocks of these files are far smaller than 16 MiB.
const BOUND: usize = 16 << 20;

/// Greatest allocation since it was last set to 0.
static GREATEST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes on unchanged to the system's allocator, which keeps the contract.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        GREATEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        GREATEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        GREATEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Opens, checks and reads, whatever comes of it.
fn use_fully(bytes: &[u8]) {
    let Ok(file) = TokenFile::new(bytes) else {
        return;
    };
    file.check(&ALL);
    file.check(&CheckOptions {
        sample: Some(0.5),
        threads: 2,
        ..ALL
    });
    let mut ids = Vec::new();
    let mut out = vec![0; 64];
    // First and last: a hostile count must not make the test itself run for ever.
    for record in (0..20).chain([file.len().wrapping_sub(1), u64::MAX / 2]) {
        let _ = file.get(record, &mut ids);
        let _ = file.shape(record);
        let _ = file.gather(&[record, record], &mut out[..12]);
        let _ = file.get_range(record..record.saturating_add(2), &mut out[..12]);
        let _ = (file.label(record), file.name(record), file.size(record));
    }
    file.names().take(100).for_each(drop);
}

fn watch(what: &dyn Fn() -> String, work: impl FnOnce()) {
    GREATEST.store(0, Ordering::Relaxed);
    work();
    let greatest = GREATEST.load(Ordering::Relaxed);
    assert!(
        greatest <= BOUND,
        "{}: an allocation of {greatest} bytes",
        what()
    );
}

const HOSTILE: [u64; 20] = [
    0,
    1,
    2,
    3,
    7,
    17,
    255,
    256,
    4097,
    65_537,
    (1 << 24) + 1,
    1 << 27,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Every number in a file: its place and width, with a name for messages.
fn numbers(bytes: &[u8], anatomy: &Anatomy) -> Vec<(String, usize, usize)> {
    let mut all = Vec::new();
    let mut record = |name: &str, start: usize, fields: &[Field]| {
        for field in fields.iter().filter(|field| field.size <= 8) {
            all.push((
                format!("{name}.{}", field.name),
                start + field.offset,
                field.size,
            ));
        }
    };
    record("header", 0, Header::FIELDS);
    let table = field(Header::FIELDS, "sections").offset;
    // One entry more than are used.
    for slot in 0..=anatomy.sections.len() {
        record(
            "section",
            table + slot * SectionEntry::LEN,
            SectionEntry::FIELDS,
        );
    }
    let index = anatomy.section(INDEX).unwrap().0;
    let payload_length = field(BlockHeader::FIELDS, "payload_length");
    for (number, &(start, length)) in anatomy.blocks.iter().enumerate() {
        record("block", start, BlockHeader::FIELDS);
        record(
            "index",
            index + number * IndexEntry::LEN,
            IndexEntry::FIELDS,
        );
        let payload = get(bytes, start + payload_length.offset, payload_length.size) as usize;
        let table = start + BlockHeader::LEN + payload;
        for entry in (table..start + length).step_by(RecordEntry::LEN) {
            record("record", entry, RecordEntry::FIELDS);
        }
    }
    for (start, length) in [NAMES, CLASSES]
        .into_iter()
        .filter_map(|kind| anatomy.section(kind))
    {
        record("text", start, TextHeader::FIELDS);
        if length > TextHeader::LEN {
            record(
                "chunk",
                start + length - ChunkEntry::LEN,
                ChunkEntry::FIELDS,
            );
        }
    }
    // Counts may stand at any byte of the metadata.
    let words = [(METADATA, 1, 8), (LABELS, 4, 4), (SIZES, 4, 4)];
    for (kind, step, size) in words {
        let Some((start, length)) = anatomy.section(kind) else {
            continue;
        };
        for at in (start..=(start + length).saturating_sub(size)).step_by(step) {
            all.push((format!("section {kind} at {}", at - start), at, size));
        }
    }
    all
}

#[test]
fn hostile_files_allocate_little() {
    let folder = tempfile::TempDir::new().unwrap();
    let (input, output) = (
        folder.path().join("hostile.vqt"),
        folder.path().join("saved.vqt"),
    );
    for (kind, made) in kinds() {
        let bytes = made.to_bytes();
        watch(&|| kind.into(), || use_fully(&bytes));
        let anatomy = Anatomy::of(&bytes);
        let mut same = bytes.clone();
        anatomy.reseal(&mut same);
        assert_eq!(
            same, bytes,
            "{kind}: sealing again must change nothing in an undamaged file"
        );

        for (name, at, size) in numbers(&bytes, &anatomy) {
            for value in HOSTILE {
                let mut hostile = bytes.clone();
                set(&mut hostile, at, size, value);
                let what = || format!("{kind}: {name} = {value}");
                watch(&what, || use_fully(&hostile));
                anatomy.reseal(&mut hostile);
                watch(&what, || use_fully(&hostile));
            }
            let mut hostile = bytes.clone();
            set(&mut hostile, at, size, u64::MAX / 3);
            anatomy.reseal(&mut hostile);
            fs::write(&input, &hostile).unwrap();
            let what = || format!("{kind}: recovering {name}");
            watch(&what, || drop(survey(&input)));
            watch(&what, || drop(recover(&input, &output, true)));
            watch(&what, || drop(TokenFile::open(&input)));
            watch(&what, || drop(TokenFile::read(&input)));
        }
        two_at_once(kind, &made, &bytes, &anatomy);
    }
}

/// Pairs of numbers, which may agree with each other where one alone would be caught.
fn two_at_once(kind: &str, made: &Made, bytes: &[u8], anatomy: &Anatomy) {
    let numbers = numbers(bytes, anatomy);
    let mut random = Random(made.pictures.len() as u64);
    for _ in 0..2_000 {
        let mut hostile = bytes.to_vec();
        let mut names = Vec::new();
        for _ in 0..2 + random.below(2) {
            let (name, at, size) = &numbers[random.below(numbers.len() as u64) as usize];
            let value = match random.below(3) {
                0 => random.next() >> random.below(64),
                1 => get(bytes, *at, *size)
                    .wrapping_add(random.below(9))
                    .wrapping_sub(4),
                _ => HOSTILE[random.below(HOSTILE.len() as u64) as usize],
            };
            set(&mut hostile, *at, *size, value);
            names.push(format!("{name} = {value}"));
        }
        anatomy.reseal(&mut hostile);
        watch(&|| format!("{kind}: {names:?}"), || use_fully(&hostile));
    }
}
