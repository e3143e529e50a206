//! Jobs that are stopped, by a signal or for good, and go on with `--resume` to the same bytes.
#![cfg(unix)]

mod common;
mod jobs;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Folder, vqlc};
use jobs::{classes, compress, compress_args, put};
use vqlc_format::{journal_path, partial_path};

/// Many pictures without much disk: links to a few.
fn many(folder: &Folder, count: u32) -> std::path::PathBuf {
    let root = classes(folder, "in", 3);
    for i in 0..count {
        let from = root.join(["birds/000.png", "fish/001.png", "trees/002.png"][i as usize % 3]);
        std::fs::hard_link(from, root.join(format!("birds/x{i:05}.png"))).unwrap();
    }
    root
}

fn start(args: impl IntoIterator<Item = OsString>) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vqlc"))
        .args(compress_args(args))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the job has begun to write.
fn begun(child: &mut Child, out: &Path) {
    while !partial_path(out).exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it began to write"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn stopped_by_a_signal_and_resumed() {
    let folder = Folder::new();
    let root = many(&folder, 300);
    let whole = folder.path("whole.vqt");
    compress(args!["-q", root, whole]).code(0);
    let whole = std::fs::read(whole).unwrap();
    for name in ["INT", "TERM"] {
        let out = folder.path(&format!("{name}.vqt"));
        let mut child = start(args![root, out]);
        begun(&mut child, &out);
        signal(&child, name);
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(130), "{said}");
        assert!(said.contains("--resume"), "{said}");
        assert!(!out.exists() && partial_path(&out).exists());

        // Neither over it nor past it without being told.
        let run = compress(args![root, out]).code(1);
        assert!(run.err.contains("--resume goes on with it"), "{run:?}");
        let run = compress(args!["--resume", "--no-labels", root, out]).code(1);
        assert!(run.err.contains("cannot resume"), "{run:?}");
        let json = compress(args!["--resume", "--json", root, out])
            .code(0)
            .json();
        assert_eq!(json["pictures"], 303);
        assert!(std::fs::read(&out).unwrap() == whole);
        assert!(!partial_path(&out).exists() && !journal_path(&out).exists());
    }
}

#[test]
fn killed_five_times_and_resumed() {
    let folder = Folder::new();
    let root = many(&folder, 400);
    let (whole, out) = (folder.path("whole.vqt"), folder.path("t.vqt"));
    compress(args!["-q", root, whole]).code(0);
    let mut killed = 0;
    for round in 0..5_u64 {
        let mut child = start(args!["--resume", root, out]);
        begun(&mut child, &out);
        // The first has only begun; a later one may have come to its end before the kill.
        std::thread::sleep(Duration::from_millis(37 * round));
        child.kill().unwrap();
        let by_kill = child.wait().unwrap().signal() == Some(9);
        killed += u32::from(by_kill && partial_path(&out).exists());
        if out.exists() {
            break;
        }
    }
    assert!(killed > 0, "no kill met a running job");
    if !out.exists() {
        compress(args!["--resume", root, out]).code(0);
    }
    assert!(std::fs::read(&out).unwrap() == std::fs::read(whole).unwrap());
    vqlc(args!["validate", out]).code(0);
}

#[test]
fn strict_stops_and_the_rest_can_be_had() {
    let folder = Folder::new();
    let (root, out, clean) = (
        classes(&folder, "in", 9),
        folder.path("t.vqt"),
        folder.path("clean.vqt"),
    );
    std::fs::write(root.join("fish/000-bad.png"), "bad").unwrap();
    let run = compress(args!["--strict", root, out]).code(1);
    assert!(run.err.contains("--resume without --strict"), "{run:?}");
    let run = compress(args!["--resume", "--max-memory", "9G", root, out]).code(1);
    assert!(run.err.contains("cannot resume"), "{run:?}");
    let run = compress(args!["--resume", "--json", root, out]).code(3);
    assert_eq!(run.json()["resumed"], true, "{run:?}");
    assert_eq!(
        (&run.json()["pictures"], &run.json()["skipped_count"]),
        (&9.into(), &1.into())
    );
    compress(args![root, clean]).code(3);
    assert!(std::fs::read(out).unwrap() == std::fs::read(clean).unwrap());
}

#[test]
fn a_changed_folder_is_not_resumed() {
    let folder = Folder::new();
    let (root, out) = (classes(&folder, "in", 9), folder.path("t.vqt"));
    let bad = root.join("fish/000-bad.png");
    std::fs::write(&bad, "bad").unwrap();
    compress(args!["--strict", root, out]).code(1);
    put(&root.join("trees/new.png"), 1);
    let run = compress(args!["--resume", root, out]).code(1);
    assert!(run.err.contains("cannot resume"), "{run:?}");
    std::fs::remove_file(root.join("trees/new.png")).unwrap();
    // The same names and sizes, another time.
    let file = std::fs::File::options().append(true).open(&bad).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let run = compress(args!["--resume", root, out]).code(1);
    assert!(run.err.contains("cannot resume"), "{run:?}");
    compress(args!["--force", root, out]).code(3);
    assert!(!partial_path(&out).exists());
}

#[test]
fn resuming_nothing_starts_from_the_first() {
    let folder = Folder::new();
    let (root, out) = (classes(&folder, "in", 3), folder.path("t.vqt"));
    let run = compress(args!["--resume", root, out]).code(0);
    assert!(run.err.contains("nothing to resume"), "{run:?}");
    vqlc(args!["validate", out]).code(0);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::new();
    let root = many(&folder, 9000);
    let shell = format!(
        "'{}' compress --dry-run '{}' out.vqt 2>/dev/null | head -n 1; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_vqlc"),
        root.display()
    );
    let ended = Command::new("bash").args(["-c", &shell]).output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stdout, b"birds/000.png\n");
}
