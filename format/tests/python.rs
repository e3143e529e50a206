//! The Python reader, which was written from SPEC.md alone, says the same of the golden files as this library does, and
//! refuses the bad ones. Needs `python3` (3.9 or newer, nothing beside its standard library).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the reader prints of all files, how it ends, and its complaints.
fn run(files: &[PathBuf]) -> (String, Option<i32>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vqt_reader.py");
    let run = Command::new("python3").arg(script).args(files).output();
    let run = run.unwrap_or_else(|error| panic!("this test needs python3 in the PATH: {error}"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(run.stdout), run.status.code(), text(run.stderr))
}

fn golden(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/vqt/v1.0")
        .join(folder);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "vqt"))
        .collect();
    files.sort_unstable();
    assert!(
        files.len() > 5,
        "{} holds no golden files",
        folder.display()
    );
    files
}

/// Pythons before 3.14 have no zstd: those lines say so, and only those.
fn undecoded(line: &str) -> bool {
    ["\"classes\": \"undecoded\"", "\"names\": \"undecoded\""].contains(&line.trim_end_matches(','))
}

#[test]
fn python_reads_the_golden_files_the_same() {
    let files = golden("good");
    let (found, status, errors) = run(&files);
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    let expected: String = files
        .iter()
        .map(|file| fs::read_to_string(file.with_extension("json")).unwrap())
        .collect();
    assert_eq!(found.lines().count(), expected.lines().count());
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert!(undecoded(found) || found == expected, "{found}\n{expected}");
    }
}

#[test]
fn python_refuses_the_bad_files() {
    let (found, status, errors) = run(&golden("bad"));
    assert_eq!(status, Some(1), "{errors}");
    assert!(!errors.contains("Traceback"), "{errors}");
    for file in golden("bad") {
        // Only zstd can judge that one's frame.
        let judged = !file.ends_with("names-garbled.vqt") || !found.lines().any(undecoded);
        let complaint = format!("{}: ", file.display());
        assert!(
            !judged || errors.lines().any(|line| line.starts_with(&complaint)),
            "{complaint}passed"
        );
    }
}

#[test]
fn python_reads_the_example_of_the_specification() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/vqt/spec-example.vqt");
    let (found, status, errors) = run(&[file]);
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    // The numbers that the text above the hexdump names.
    for line in [
        "\"ids\": [[0, 1, 2], [3, 4, 0]]",
        "\"labels\": [0, null]",
        "\"sizes\": [[640, 480], [1, 2]]",
    ] {
        assert!(found.contains(line), "{line} is not in {found}");
    }
}
