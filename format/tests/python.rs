//! The Python reader, which was written from SPEC.md alone, says the same of the golden files as this library does, and
//! refuses the bad ones. Needs `python3` (3.9 or newer, nothing beside its standard library).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(file: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vqt_reader.py");
    let run = Command::new("python3").arg(script).arg(file).output();
    run.unwrap_or_else(|error| panic!("this test needs python3 in the PATH: {error}"))
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
    for path in golden("good") {
        let output = run(&path);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", path.display());
        let found = String::from_utf8(output.stdout).unwrap();
        let expected = fs::read_to_string(path.with_extension("json")).unwrap();
        assert_eq!(found.lines().count(), expected.lines().count());
        for (found, expected) in found.lines().zip(expected.lines()) {
            assert!(
                undecoded(found) || found == expected,
                "{}:\n{found}\n{expected}",
                path.display()
            );
        }
    }
}

#[test]
fn python_refuses_the_bad_files() {
    for path in golden("bad") {
        let output = run(&path);
        let errors = String::from_utf8_lossy(&output.stderr);
        // A frame that only zstd can judge.
        if path.ends_with("names-garbled.vqt")
            && String::from_utf8_lossy(&output.stdout)
                .lines()
                .any(undecoded)
        {
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{}", path.display());
        assert!(
            !errors.contains("Traceback"),
            "{}: {errors}",
            path.display()
        );
    }
}
