//! Offsets past 4 GiB: a file of 66 blocks of 67 MB whose ids are 0 (a hole on disk) but for a few records.
//! Unix only, for writing at an offset.
#![cfg(unix)]

mod common;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::reseal::{field, set};
use common::{ALL, Made, Random, plain};
use vqlc_format::pack::pack;
use vqlc_format::records::{
    BLOCK_MAGIC, BLOCKS, BlockHeader, Field, Footer, Header, INDEX, IndexEntry, SectionEntry,
};
use vqlc_format::{CheckOptions, Digest, Error, Place, Spec, TokenFile};

const IDS: usize = 256;
const STRIDE: usize = 544;
const PER_BLOCK: usize = 123_000;
const BLOCK: usize = BlockHeader::LEN + PER_BLOCK * STRIDE;
const LAST: usize = 65;
/// The last block is five records short.
const RECORDS: usize = (LAST + 1) * PER_BLOCK - 5;
const FOUR_GIB: u64 = 1 << 32;

fn spec() -> Spec {
    Spec {
        records_per_block: Some(PER_BLOCK as u32),
        ..plain(16, 16)
    }
}

/// First byte of a record, given that of the first block.
fn offset_of(record: usize, blocks: usize) -> u64 {
    let (block, within) = (record / PER_BLOCK, record % PER_BLOCK);
    (blocks + block * BLOCK + BlockHeader::LEN + within * STRIDE) as u64
}

/// The records that are not all 0: first and last ones, and both sides of 4 GiB.
fn written(blocks: usize) -> Vec<usize> {
    let border = (0..RECORDS)
        .rev()
        .find(|&r| offset_of(r, blocks) < FOUR_GIB)
        .unwrap();
    vec![
        0,
        1,
        border - 1,
        border,
        border + 1,
        RECORDS - 2,
        RECORDS - 1,
    ]
}

fn ids_of(record: usize) -> Vec<u32> {
    let mut random = Random(record as u64);
    (0..IDS).map(|_| random.below(100_000) as u32).collect()
}

fn put(bytes: &mut [u8], fields: &[Field], name: &str, value: u64) {
    let field = field(fields, name);
    set(bytes, field.offset, field.size, value);
}

fn put_crc(bytes: &mut [u8], fields: &[Field]) {
    let at = field(fields, "crc32").offset;
    let crc = crc32fast::hash(&bytes[..at]);
    set(bytes, at, 4, crc.into());
}

/// The CRC of a block of which only `head` (its header but for the CRC) is not 0.
fn crc_of_zeros(head: &[u8], zeros: &crc32fast::Hasher) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.combine(zeros);
    hasher.finalize()
}

/// Writes the blocks and gives the index. Hashing 4 GiB of zeros would take seconds, so the SHA-256 of the blocks without a
/// written record stays 0 in the index; opening and reading do not look at it.
fn write_blocks(file: &File, blocks: usize) -> Vec<u8> {
    let written = written(blocks);
    let mut zeros = crc32fast::Hasher::new();
    let megabyte = vec![0; 1 << 20];
    let payload = |block| PER_BLOCK * STRIDE - if block == LAST { 5 * STRIDE } else { 0 };
    let mut left = payload(0);
    while left > 0 {
        let piece = left.min(megabyte.len());
        zeros.update(&megabyte[..piece]);
        left -= piece;
    }
    let mut index = Vec::new();
    for block in 0..=LAST {
        let records = payload(block) / STRIDE;
        let mut head = vec![0; BlockHeader::LEN];
        head[..8].copy_from_slice(&BLOCK_MAGIC);
        put(&mut head, BlockHeader::FIELDS, "number", block as u64);
        put(
            &mut head,
            BlockHeader::FIELDS,
            "first_record",
            (block * PER_BLOCK) as u64,
        );
        put(
            &mut head,
            BlockHeader::FIELDS,
            "payload_length",
            payload(block) as u64,
        );
        put(&mut head, BlockHeader::FIELDS, "records", records as u64);
        let start = (blocks + block * BLOCK) as u64;
        let crc_at = field(BlockHeader::FIELDS, "crc32").offset;
        let here: Vec<usize> = written
            .iter()
            .copied()
            .filter(|r| r / PER_BLOCK == block)
            .collect();
        let (crc, sha) = if here.is_empty() {
            (crc_of_zeros(&head[..crc_at], &zeros), Digest::default())
        } else {
            let mut bytes = head.clone();
            bytes.resize(BlockHeader::LEN + payload(block), 0);
            for record in here {
                let at = (offset_of(record, blocks) - start) as usize;
                pack(&ids_of(record), 17, &mut bytes[at..at + STRIDE]);
                file.write_all_at(&bytes[at..at + STRIDE], start + at as u64)
                    .unwrap();
            }
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&bytes[..crc_at]);
            hasher.update(&bytes[crc_at + 4..]);
            let crc = hasher.finalize();
            set(&mut bytes, crc_at, 4, crc.into());
            (crc, Digest::of(&bytes))
        };
        set(&mut head, crc_at, 4, crc.into());
        file.write_all_at(&head, start).unwrap();

        let mut entry = vec![0; IndexEntry::LEN];
        put(&mut entry, IndexEntry::FIELDS, "offset", start);
        put(
            &mut entry,
            IndexEntry::FIELDS,
            "length",
            (BlockHeader::LEN + payload(block)) as u64,
        );
        put(
            &mut entry,
            IndexEntry::FIELDS,
            "first_record",
            (block * PER_BLOCK) as u64,
        );
        put(&mut entry, IndexEntry::FIELDS, "records", records as u64);
        put(&mut entry, IndexEntry::FIELDS, "crc32", crc.into());
        let at = field(IndexEntry::FIELDS, "sha256").offset;
        entry[at..at + 32].copy_from_slice(&sha.0);
        index.extend(entry);
    }
    index
}

/// Makes the file, with header and metadata taken from one that a writer wrote.
fn write_sparse(path: &Path) -> usize {
    let small = Made::random(spec(), 1, 1).to_bytes();
    let opened = TokenFile::new(small.as_slice()).unwrap();
    let blocks = opened.header().section(BLOCKS).unwrap().offset as usize;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    let index = write_blocks(&file, blocks);
    let index_at = blocks + (LAST + 1) * BLOCK - 5 * STRIDE;
    let footer_at = index_at + index.len();

    let mut head = small[..blocks].to_vec();
    for (name, value) in [
        ("file_length", footer_at + Footer::LEN),
        ("records", RECORDS),
        ("pictures", RECORDS),
        ("blocks", LAST + 1),
    ] {
        put(&mut head, Header::FIELDS, name, value as u64);
    }
    let table = field(Header::FIELDS, "sections").offset;
    let kinds: Vec<u32> = opened.header().sections().iter().map(|s| s.kind).collect();
    let mut section = |kind, name, value| {
        let slot = kinds.iter().position(|&k| k == kind).unwrap();
        put(
            &mut head[table + slot * SectionEntry::LEN..],
            SectionEntry::FIELDS,
            name,
            value,
        );
    };
    section(BLOCKS, "length", (index_at - blocks) as u64);
    section(INDEX, "offset", index_at as u64);
    section(INDEX, "length", index.len() as u64);
    section(INDEX, "crc32", crc32fast::hash(&index).into());
    put_crc(&mut head[..Header::LEN], Header::FIELDS);

    let mut footer = small[small.len() - Footer::LEN..].to_vec();
    footer[..Header::LEN].copy_from_slice(&head[..Header::LEN]);
    let sha_at = field(IndexEntry::FIELDS, "sha256").offset;
    let mut digests = Vec::new();
    for entry in index.chunks(IndexEntry::LEN) {
        digests.extend(&entry[sha_at..sha_at + 32]);
    }
    for section in [&head[Header::LEN..], &index] {
        digests.extend(Digest::of(section).0);
    }
    let content = field(Footer::FIELDS, "content").offset;
    footer[content..content + 32].copy_from_slice(&Digest::of(&digests).0);
    put_crc(&mut footer, Footer::FIELDS);
    file.write_all_at(&head, 0).unwrap();
    file.write_all_at(&index, index_at as u64).unwrap();
    file.write_all_at(&footer, footer_at as u64).unwrap();
    (&file).flush().unwrap();
    blocks
}

#[test]
fn records_past_4_gib_are_found() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("sparse.vqt");
    let blocks = write_sparse(&path);
    let file = TokenFile::open(&path).unwrap();
    assert_eq!(file.len(), RECORDS as u64);

    let written = written(blocks);
    assert!(offset_of(written[3], blocks) < FOUR_GIB && offset_of(written[4], blocks) >= FOUR_GIB);
    let mut ids = Vec::new();
    for &record in &written {
        assert_eq!(file.get(record as u64, &mut ids).unwrap(), (16, 16));
        assert_eq!(ids, ids_of(record), "record {record}");
    }
    // Neighbours of what was written are empty, so nothing is read from a wrong place.
    let mut out = vec![9; 5 * IDS];
    let border = written[3] as u64;
    file.gather(
        &[border + 1, 2, RECORDS as u64 - 1, border + 2, border],
        &mut out,
    )
    .unwrap();
    let expected = [
        ids_of(written[4]),
        vec![0; IDS],
        ids_of(RECORDS - 1),
        vec![0; IDS],
        ids_of(written[3]),
    ];
    assert_eq!(out, expected.concat());
    file.get_range(border - 2..border + 3, &mut out).unwrap();
    let expected = [
        vec![0; IDS],
        ids_of(written[2]),
        ids_of(written[3]),
        ids_of(written[4]),
        vec![0; IDS],
    ];
    assert_eq!(out, expected.concat());

    // A sample of the blocks: all that is missed are the digests that were left out.
    let sample = Some(4.0 / (LAST + 1) as f64);
    let report = file.check(&CheckOptions { sample, ..ALL });
    assert_eq!((report.blocks, report.blocks_checked), (LAST as u64 + 1, 4));
    for problem in &report.problems {
        let left_out = |block: u64| !written.iter().any(|r| (r / PER_BLOCK) as u64 == block);
        assert!(
            matches!(problem.what, Place::Block(block) if left_out(block)),
            "{problem:?}"
        );
        assert!(
            matches!(problem.error, Error::DigestMismatch { .. }),
            "{problem:?}"
        );
    }

    let error = file
        .get(RECORDS as u64, &mut ids)
        .expect_err("there is no such record");
    assert!(matches!(error, Error::OutOfRange { .. }), "{error}");
}
