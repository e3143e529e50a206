//! Killed jobs: resumed at every point of their journal and between all steps of finishing, they end in the same bytes.

mod common;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use common::{JOB, Made, kinds};
use tempfile::TempDir;
use vqlc_format::{
    CheckOptions, Digest, Error, TokenFile, Writer, journal_path, merge, partial_path, recover,
    split, survey,
};

/// A suspended job: half of the pictures, with a journal entry after each.
fn half_done(made: &Made, path: &Path) {
    let half = made.pictures.len().div_ceil(2);
    for position in 0..half {
        let open = if position == 0 {
            Writer::create
        } else {
            Writer::resume
        };
        let mut writer = open(path, &made.spec, JOB, false).unwrap();
        assert_eq!(writer.next_position(), position as u64);
        writer
            .push(position as u64, &made.pictures[position].as_picture())
            .unwrap();
        writer.suspend().unwrap();
    }
    if half == 0 {
        Writer::create(path, &made.spec, JOB, false)
            .unwrap()
            .suspend()
            .unwrap();
    }
}

/// The first kind that has pictures.
fn some_kind() -> Made {
    let kinds = kinds().into_iter().map(|(_, made)| made);
    kinds
        .into_iter()
        .find(|made| !made.pictures.is_empty())
        .unwrap()
}

fn complete(made: &Made, path: &Path) -> Vec<u8> {
    let mut writer = Writer::resume(path, &made.spec, JOB, false).unwrap();
    made.push_all(&mut writer);
    writer.finish(made.pictures.len() as u64).unwrap();
    assert!(!partial_path(path).exists() && !journal_path(path).exists());
    fs::read(path).unwrap()
}

fn cut(path: &Path, length: u64) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

/// Copies an unfinished job so that it can be damaged.
fn copy_job(from: &Path, folder: &TempDir, name: &str) -> PathBuf {
    let to = folder.path().join(name);
    fs::copy(partial_path(from), partial_path(&to)).unwrap();
    fs::copy(journal_path(from), journal_path(&to)).unwrap();
    to
}

#[test]
fn a_journal_cut_anywhere_resumes_to_the_same_bytes() {
    for (kind, made) in kinds() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.vqt");
        half_done(&made, &path);
        let expected = made.to_bytes();
        let journal = fs::read(journal_path(&path)).unwrap();
        let header = 16 + u64::from(u32::from_le_bytes(journal[8..12].try_into().unwrap()));
        for length in (header..=journal.len() as u64).step_by(3) {
            let copy = copy_job(&path, &folder, &format!("{length}.vqt"));
            cut(&journal_path(&copy), length);
            assert_eq!(
                complete(&made, &copy),
                expected,
                "{kind}, journal cut to {length}"
            );
            fs::remove_file(copy).unwrap();
        }
    }
}

#[test]
fn a_partial_file_cut_or_damaged_anywhere_resumes_to_the_same_bytes() {
    for (kind, made) in kinds() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.vqt");
        half_done(&made, &path);
        let expected = made.to_bytes();
        let length = fs::metadata(partial_path(&path)).unwrap().len();
        for at in (0..length).step_by(37) {
            let copy = copy_job(&path, &folder, "cut.vqt");
            cut(&partial_path(&copy), at);
            assert_eq!(complete(&made, &copy), expected, "{kind}, cut to {at}");
            fs::remove_file(copy).unwrap();
            let copy = copy_job(&path, &folder, "flipped.vqt");
            let mut bytes = fs::read(partial_path(&copy)).unwrap();
            bytes[at as usize] ^= 0x10;
            fs::write(partial_path(&copy), bytes).unwrap();
            assert_eq!(
                complete(&made, &copy),
                expected,
                "{kind}, byte {at} changed"
            );
            fs::remove_file(copy).unwrap();
        }
    }
}

#[test]
fn a_partial_file_never_validates() {
    for (kind, made) in kinds() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.vqt");
        half_done(&made, &path);
        let error = TokenFile::open(&partial_path(&path)).err().unwrap();
        assert!(error.is_damage(), "{kind}: {error}");
    }
}

#[test]
fn killed_while_finishing_it_is_resumed_or_complete() {
    for (kind, made) in kinds() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.vqt");
        let mut writer = Writer::create(&path, &made.spec, JOB, false).unwrap();
        made.push_all(&mut writer);
        writer.suspend().unwrap();
        let journal = fs::read(journal_path(&path)).unwrap();
        let expected = complete(&made, &path);
        // Killed while the end was written (header still zero), and after sealing but before renaming.
        for (sealed, length) in [
            (false, expected.len() - 7),
            (false, expected.len()),
            (true, expected.len()),
        ] {
            let copy = folder.path().join("copy.vqt");
            let mut bytes = expected[..length].to_vec();
            if !sealed {
                bytes[..1024].fill(0);
            }
            fs::write(partial_path(&copy), bytes).unwrap();
            fs::write(journal_path(&copy), &journal).unwrap();
            assert_eq!(complete(&made, &copy), expected, "{kind}, sealed {sealed}");
            fs::remove_file(copy).unwrap();
        }
        // Killed after renaming, before the journal was removed.
        fs::write(journal_path(&path), &journal).unwrap();
        let error = Writer::resume(&path, &made.spec, JOB, false).err().unwrap();
        assert!(
            matches!(error, Error::AlreadyComplete { .. }),
            "{kind}: {error}"
        );
        assert!(!journal_path(&path).exists());
        let error = Writer::resume(&path, &made.spec, JOB, false).err().unwrap();
        assert!(
            matches!(error, Error::NothingToResume { .. }),
            "{kind}: {error}"
        );
        assert_eq!(fs::read(&path).unwrap(), expected);
    }
}

#[test]
fn another_job_or_specification_is_not_resumed() {
    let made = some_kind();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.vqt");
    half_done(&made, &path);
    let refused = |spec: &vqlc_format::Spec, job| {
        let error = Writer::resume(&path, spec, job, false).err().unwrap();
        assert!(matches!(error, Error::ResumeMismatch { .. }), "{error}");
        assert!(!error.is_damage());
    };
    refused(&made.spec, Digest([8; 32]));
    let mut spec = made.spec.clone();
    spec.codebook_size += 1;
    refused(&spec, JOB);
    let mut spec = made.spec.clone();
    spec.preprocessing.push(1);
    refused(&spec, JOB);
    assert_eq!(complete(&made, &path), made.to_bytes());
}

#[test]
fn nothing_is_overwritten_unasked() {
    let made = some_kind();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.vqt");
    made.write(&path);
    let error = Writer::create(&path, &made.spec, JOB, false).err().unwrap();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    let writer = Writer::create(&path, &made.spec, JOB, true).unwrap();
    let error = Writer::create(&path, &made.spec, JOB, true).err().unwrap();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    writer.suspend().unwrap();
    fs::remove_file(&path).unwrap();
    let error = Writer::create(&path, &made.spec, JOB, false).err().unwrap();
    assert!(matches!(error, Error::PartialExists { .. }), "{error}");
    assert_eq!(complete(&made, &path), made.to_bytes());
}

#[test]
fn a_lost_journal_is_told_and_not_begun_anew() {
    let made = some_kind();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.vqt");
    half_done(&made, &path);
    fs::remove_file(journal_path(&path)).unwrap();
    let error = Writer::resume(&path, &made.spec, JOB, false).err().unwrap();
    assert!(matches!(error, Error::JournalLost { .. }), "{error}");
}

#[test]
fn an_unfinished_file_is_recovered_from_its_journal() {
    for (kind, made) in kinds() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.vqt");
        half_done(&made, &path);
        let half = made.pictures.len().div_ceil(2);
        let report = survey(&partial_path(&path)).unwrap();
        assert_eq!(
            (report.pictures, report.pictures_saved),
            (half as u64, half as u64),
            "{kind}"
        );
        let saved = folder.path().join("saved.vqt");
        recover(&partial_path(&path), &saved, false).unwrap();
        let mut expected = made.clone();
        expected.pictures.truncate(half);
        assert_eq!(fs::read(saved).unwrap(), expected.to_bytes(), "{kind}");
        assert_eq!(
            complete(&made, &path),
            made.to_bytes(),
            "{kind}: the input stays as it was"
        );
    }
}

#[test]
fn a_damaged_block_costs_its_pictures_only() {
    for (kind, made) in kinds() {
        let folder = TempDir::new().unwrap();
        let (path, saved) = (folder.path().join("a.vqt"), folder.path().join("saved.vqt"));
        made.write(&path);
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(61) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let surveyed = survey(&path).unwrap();
            let report = recover(&path, &saved, true).unwrap();
            assert_eq!(surveyed.lost, report.lost, "{kind}, byte {at}");
            let lost: u64 = report
                .lost
                .iter()
                .map(|range| range.end - range.start)
                .sum();
            assert_eq!(report.pictures_saved + lost, made.pictures.len() as u64);
            let file = TokenFile::read(&saved).unwrap();
            assert!(file.check(&CheckOptions::default()).is_ok());
            let kept = (0..made.pictures.len() as u64)
                .filter(|&p| !report.lost.iter().any(|lost| lost.contains(&p)));
            let views = made.views() as u64;
            let mut out = Vec::new();
            for (saved, original) in kept.enumerate() {
                for view in 0..views {
                    let shape = file.get(saved as u64 * views + view, &mut out).unwrap();
                    let (rows, cols, ids) = made.record(original * views + view);
                    assert_eq!((shape, &out[..]), ((rows, cols), ids), "{kind}, byte {at}");
                }
            }
        }
    }
}

#[test]
fn merging_what_differs_is_refused() {
    let made = some_kind();
    let folder = TempDir::new().unwrap();
    let [one, two, out] = ["1", "2", "out"].map(|name| folder.path().join(name));
    made.write(&one);
    let mut other = made.clone();
    other.spec.digests.encoder = Digest([9; 32]);
    other.write(&two);
    let error = merge(&[one.clone(), two], &out, false).unwrap_err();
    assert!(
        matches!(
            error,
            Error::MergeMismatch {
                what: "encoder digest",
                ..
            }
        ),
        "{error}"
    );
    assert!(!out.exists() && !partial_path(&out).exists());
    let error = split(&one, &[out.clone(), out], false).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error}");
}

/// A device that is always full stands for a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_with_the_path() {
    let made = some_kind();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.vqt");
    std::os::unix::fs::symlink("/dev/full", journal_path(&path)).unwrap();
    // The journal of an earlier job is removed first, so what is full here is the partial file.
    fs::remove_file(journal_path(&path)).unwrap();
    std::os::unix::fs::symlink("/dev/full", partial_path(&path)).unwrap();
    let error = Writer::create(&path, &made.spec, JOB, true).err().unwrap();
    let Error::Io { path: named, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*named, partial_path(&path));
    assert!(fs::symlink_metadata(partial_path(&path)).is_err() && !journal_path(&path).exists());
}
