//! Recovering, merging and splitting leave alone what is not theirs, and tell what they could not save.

mod common;

use std::fs;
use std::path::Path;

use common::reseal::{Anatomy, field, get, set};
use common::{JOB, Made, kinds, plain};
use tempfile::TempDir;
use vqlc_format::records::{BlockHeader, Header, METADATA, SectionEntry};
use vqlc_format::{
    Error, Place, Record, Spec, TokenFile, Writer, journal_path, merge, partial_path, recover,
    split, survey,
};

fn some() -> Made {
    Made::random(plain(2, 2), 3, 3)
}

/// A job with one picture journalled.
fn begin(made: &Made, path: &Path) {
    let mut writer = Writer::create(path, &made.spec, JOB, false).unwrap();
    writer.push(0, &made.pictures[0].as_picture()).unwrap();
    writer.suspend().unwrap();
}

fn complete(made: &Made, path: &Path) -> Vec<u8> {
    let mut writer = Writer::resume(path, &made.spec, JOB, true).unwrap();
    assert_eq!(writer.next_position(), 1);
    made.push_all(&mut writer);
    writer.finish(made.pictures.len() as u64).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn an_unfinished_job_is_not_recovered_over_itself() {
    let made = some();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.vqt");
    begin(&made, &path);
    let mut outputs = vec![
        path.clone(),
        folder.path().join(".").join("a.vqt"),
        partial_path(&path),
        journal_path(&path),
    ];
    #[cfg(unix)]
    {
        let linked = folder.path().join("linked.vqt");
        std::os::unix::fs::symlink(partial_path(&path), partial_path(&linked)).unwrap();
        let hard = folder.path().join("hard.vqt");
        fs::hard_link(journal_path(&path), journal_path(&hard)).unwrap();
        outputs.extend([linked, hard]);
    }
    for output in outputs {
        for overwrite in [false, true] {
            let error = recover(&partial_path(&path), &output, overwrite).unwrap_err();
            let told = error.to_string();
            assert!(
                matches!(error, Error::Argument { .. }) && told.contains("compress --resume"),
                "{told}"
            );
        }
    }
    assert_eq!(complete(&made, &path), made.to_bytes());

    let again = folder.path().join(".").join("a.vqt");
    let error = recover(&path, &again, true).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), made.to_bytes());
}

#[test]
fn recovering_leaves_another_writers_files_alone() {
    let made = some();
    let folder = TempDir::new().unwrap();
    let [from, to] = ["from.vqt", "to.vqt"].map(|name| folder.path().join(name));
    begin(&made, &from);
    let mut writer = Writer::create(&to, &made.spec, JOB, false).unwrap();
    let error = recover(&partial_path(&from), &to, true).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    made.push_all(&mut writer);
    writer.finish(made.pictures.len() as u64).unwrap();
    assert_eq!(fs::read(&to).unwrap(), made.to_bytes());

    // A job that nobody is writing is overwritten where that is asked for, and only then.
    fs::remove_file(&to).unwrap();
    begin(&made, &to);
    let error = recover(&partial_path(&from), &to, false).unwrap_err();
    assert!(matches!(error, Error::PartialExists { .. }), "{error}");
    let report = recover(&partial_path(&from), &to, true).unwrap();
    assert_eq!(report.written.unwrap().pictures, 1);
    assert!(!partial_path(&to).exists() && !journal_path(&to).exists());
    assert_eq!(complete(&made, &from), made.to_bytes());
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let made = some();
    let folder = TempDir::new().unwrap();
    let [input, output] = ["a.vqt", "out.vqt"].map(|name| folder.path().join(name));
    made.write(&input);
    // The journal cannot be created where a folder is.
    fs::create_dir(journal_path(&output)).unwrap();
    for error in [
        Writer::create(&output, &made.spec, JOB, false)
            .err()
            .unwrap(),
        merge(std::slice::from_ref(&input), &output, false).unwrap_err(),
        split(&input, std::slice::from_ref(&output), false).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(!partial_path(&output).exists() && !output.exists());
    }
}

#[cfg(unix)]
#[test]
fn an_output_that_is_no_file_is_refused() {
    let made = some();
    let folder = TempDir::new().unwrap();
    let [socket, link, file, other] =
        ["socket", "link", "file", "other"].map(|name| folder.path().join(name));
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::os::unix::fs::symlink(&socket, &link).unwrap();
    for output in [&socket, &link] {
        for overwrite in [false, true] {
            let error = Writer::create(output, &made.spec, JOB, overwrite);
            let error = error.err().unwrap();
            assert!(matches!(error, Error::Argument { .. }), "{error}");
            assert!(!partial_path(output).exists());
        }
    }
    // A link to a file is an output like any other.
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &other).unwrap();
    Writer::create(&other, &made.spec, JOB, true)
        .unwrap()
        .discard()
        .unwrap();
}

#[test]
fn a_split_writes_nothing_if_any_output_is_in_the_way() {
    let made = some();
    let folder = TempDir::new().unwrap();
    let [input, one, two] = ["a.vqt", "1.vqt", "2.vqt"].map(|name| folder.path().join(name));
    made.write(&input);
    fs::write(&two, "old").unwrap();
    let outputs = [one.clone(), two.clone()];
    let error = split(&input, &outputs, false).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert!(!one.exists() && !partial_path(&one).exists());
    fs::remove_file(&two).unwrap();
    begin(&made, &two);
    let error = split(&input, &outputs, false).unwrap_err();
    assert!(matches!(error, Error::PartialExists { .. }), "{error}");
    assert!(!one.exists() && !partial_path(&one).exists());
    assert_eq!(split(&input, &outputs, true).unwrap().len(), 2);
}

/// Sets a number of the header.
fn put(bytes: &mut [u8], name: &str, value: u64) {
    let field = field(Header::FIELDS, name);
    set(bytes, field.offset, field.size, value);
}

/// Writes the section table, lengths and checksums that `sections` are.
fn seal(bytes: &mut [u8], anatomy: &Anatomy) {
    put(bytes, "file_length", bytes.len() as u64);
    put(bytes, "section_count", anatomy.sections.len() as u64);
    let table = field(Header::FIELDS, "sections").offset;
    for (slot, &(kind, offset, length)) in anatomy.sections.iter().enumerate() {
        for (name, value) in [
            ("kind", kind as usize),
            ("offset", offset),
            ("length", length),
        ] {
            let field = field(SectionEntry::FIELDS, name);
            let at = table + slot * SectionEntry::LEN + field.offset;
            set(bytes, at, field.size, value as u64);
        }
    }
    anatomy.reseal(bytes);
}

/// A file without pictures whose metadata section is replaced.
fn with_metadata(views: &[String], preprocessing: usize) -> Vec<u8> {
    let bytes = Made::random(plain(2, 2), 0, 1).to_bytes();
    let mut anatomy = Anatomy::of(&bytes);
    let (start, length) = anatomy.section(METADATA).unwrap();
    let mut metadata = (views.len() as u64).to_le_bytes().to_vec();
    for view in views {
        metadata.extend((view.len() as u64).to_le_bytes());
        metadata.extend(view.as_bytes());
    }
    metadata.extend((preprocessing as u64).to_le_bytes());
    metadata.resize(metadata.len() + preprocessing, b'p');
    let shift = |at: usize| at - length + metadata.len();
    for (kind, offset, length) in &mut anatomy.sections {
        match *kind {
            METADATA => *length = metadata.len(),
            _ => *offset = shift(*offset),
        }
    }
    anatomy.footer = shift(anatomy.footer);
    let mut bytes = bytes;
    bytes.splice(start..start + length, metadata);
    seal(&mut bytes, &anatomy);
    bytes
}

#[test]
fn metadata_past_its_limits_is_damage_and_lost() {
    let folder = TempDir::new().unwrap();
    let [input, output] = ["a.vqt", "out.vqt"].map(|name| folder.path().join(name));
    let name = |length| "v".repeat(length);
    let good = with_metadata(&[name(1 << 16)], 1 << 20);
    assert_eq!(TokenFile::new(good).unwrap().preprocessing().len(), 1 << 20);
    for bytes in [
        with_metadata(&[name(1), name(1)], 0),
        with_metadata(&[], 0),
        with_metadata(&[name((1 << 16) + 1)], 0),
        with_metadata(&[name(1)], (1 << 20) + 1),
    ] {
        let error = TokenFile::new(bytes.as_slice()).err().unwrap();
        assert!(error.is_damage(), "{error}");
        fs::write(&input, bytes).unwrap();
        for report in [
            survey(&input).unwrap(),
            recover(&input, &output, true).unwrap(),
        ] {
            assert_eq!(report.sections_lost, [Place::Metadata]);
            assert!(!report.is_lossless() && report.problems.len() == 1);
        }
        assert_eq!(TokenFile::read(&output).unwrap().views(), ["view 0"]);
    }
}

#[test]
fn sections_of_a_newer_version_are_lost() {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("a.vqt");
    let mut bytes = some().to_bytes();
    let mut anatomy = Anatomy::of(&bytes);
    anatomy.sections.push((99, anatomy.footer, 5));
    bytes.splice(anatomy.footer..anatomy.footer, *b"newer");
    anatomy.footer += 5;
    put(&mut bytes, "version_minor", 9);
    seal(&mut bytes, &anatomy);
    assert_eq!(TokenFile::new(bytes.as_slice()).unwrap().len(), 3);
    fs::write(&input, &bytes).unwrap();
    let report = survey(&input).unwrap();
    assert_eq!(report.sections_lost, [Place::Section(99)]);
    assert!(!report.is_lossless() && report.problems.is_empty());
}

/// Headers like a good block's, one behind the other, each of which claims the block behind all of them.
#[test]
fn a_file_made_to_be_slow_is_given_up() {
    let spec = Spec {
        records_per_block: Some(4096),
        ..plain(4, 4)
    };
    let bytes = Made::random(spec, 4096, 5).to_bytes();
    let (start, length) = Anatomy::of(&bytes).blocks[0];
    let head = &bytes[start..start + BlockHeader::LEN];
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("a.vqt");
    for (decoys, saved) in [(0, 4096), (3, 4096), (20_000, 0)] {
        let parts = [
            &bytes[..start],
            &head.repeat(decoys),
            &bytes[start..start + length],
        ];
        fs::write(&input, parts.concat()).unwrap();
        let report = survey(&input).unwrap();
        assert_eq!(report.pictures_saved, saved, "{decoys}");
        let lost: u64 = report.lost.iter().map(|lost| lost.end - lost.start).sum();
        assert_eq!(lost, 4096 - saved, "{decoys}");
    }
    // A length that is not that of its records is seen before anything is read.
    let mut damaged = bytes.clone();
    let payload = field(BlockHeader::FIELDS, "payload_length");
    let at = start + payload.offset;
    let less = get(&damaged, at, payload.size) - 1;
    set(&mut damaged, at, payload.size, less);
    fs::write(&input, damaged).unwrap();
    let report = survey(&input).unwrap();
    assert!(
        matches!(
            report.problems[0].error,
            Error::Field {
                field: "payload_length",
                ..
            }
        ),
        "{:?}",
        report.problems
    );
}

#[test]
fn records_come_in_order() {
    for (kind, made) in kinds() {
        let file = TokenFile::new(made.to_bytes()).unwrap();
        let found: Vec<Record> = file.iter().map(Result::unwrap).collect();
        assert_eq!(found.len(), made.pictures.len() * made.views(), "{kind}");
        for (number, found) in found.into_iter().enumerate() {
            let (rows, cols, ids) = made.record(number as u64);
            let expected = Record {
                record: number as u64,
                rows,
                cols,
                ids: ids.to_vec(),
            };
            assert_eq!(found, expected, "{kind}");
        }
    }
    // Damage in the second of three blocks: an error for its record, and the others still come.
    let spec = Spec {
        records_per_block: Some(1),
        ..plain(2, 2)
    };
    let mut bytes = Made::random(spec, 3, 3).to_bytes();
    let block = Anatomy::of(&bytes).blocks[1];
    bytes[block.0 + block.1 - 1] ^= 1;
    let file = TokenFile::new(bytes).unwrap();
    let damaged: Vec<_> = file
        .iter()
        .map(|record| record.is_err_and(|error| error.is_damage()))
        .collect();
    assert_eq!(damaged, [false, true, false]);
}
