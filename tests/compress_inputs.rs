//! `vqlc compress`: which pictures are taken, by globs, lists and links, and under what names.

mod common;
mod jobs;

use common::Folder;
use jobs::{classes, compress, names, put, text_names};
use vqlc_format::TokenFile;

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_survive() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let root = folder.path("in");
    put(&root.join("a.png"), 1);
    let odd: &[&[u8]] = &[
        b"gr\xfcn.png",
        b"new\nline.png",
        b"\x1b[31m.png",
        " ü.png".as_bytes(),
        b"-q.png",
    ];
    for name in odd {
        std::fs::copy(
            root.join("a.png"),
            root.join(std::ffi::OsStr::from_bytes(name)),
        )
        .unwrap();
    }
    let (out, back) = (folder.path("t.vqt"), folder.path("back"));
    let run = compress(args!["-v", root, out]).code(0);
    assert!(!run.err.contains('\x1b'), "{run:?}");
    let mut expected: Vec<Vec<u8>> = odd
        .iter()
        .map(|name| name.to_vec())
        .chain([b"a.png".to_vec()])
        .collect();
    expected.sort();
    assert_eq!(names(&out), expected);
    jobs::decompress(args![out, back]).code(0);
    let mut found: Vec<Vec<u8>> = std::fs::read_dir(back)
        .unwrap()
        .map(|e| e.unwrap().file_name().as_bytes().to_vec())
        .collect();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn globs_choose() {
    let folder = Folder::new();
    let (root, out) = (classes(&folder, "in", 9), folder.path("t.vqt"));
    let json = compress(args![
        "--json",
        "--include",
        "birds",
        "--include",
        "*1.png",
        "--exclude",
        "fish",
        root,
        out
    ])
    .code(0)
    .json();
    assert_eq!(
        text_names(&out),
        ["birds/000.png", "birds/003.png", "birds/006.png"]
    );
    assert_eq!(json["excluded"], 4, "the folder fish and three trees");
    let run = compress(args!["--force", "--include", "*.jpg", root, out]).code(1);
    assert!(run.err.contains("no pictures"), "{run:?}");
}

#[test]
fn lists_choose() {
    let folder = Folder::new();
    let (root, out, list) = (
        classes(&folder, "in", 6),
        folder.path("t.vqt"),
        folder.path("list"),
    );
    let whole = format!(
        "fish/001.png\n./birds/003.png\n\n{}\nbirds/notes.txt\nfish/001.png\ngone.png",
        root.join("trees/002.png").display()
    );
    std::fs::write(&list, whole).unwrap();
    let run = compress(args!["--json", "--files-from", list, root, out]).code(3);
    assert_eq!(
        text_names(&out),
        ["birds/003.png", "fish/001.png", "trees/002.png"]
    );
    assert_eq!(run.json()["skipped"][0]["name"], "gone.png");
    assert_eq!(run.json()["passed_over"], 1);
    assert_eq!(TokenFile::read(&out).unwrap().classes().unwrap().len(), 3);

    // Without a folder: below the current one, from stdin, ended by NUL, no labels.
    let run = assert_cmd::Command::new(env!("CARGO_BIN_EXE_vqlc"))
        .current_dir(&root)
        .args(jobs::compress_args(args![
            "--force",
            "-0",
            "--files-from",
            "-",
            out
        ]))
        .write_stdin("trees/005.png\0fish/004.png\0")
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    assert_eq!(text_names(&out), ["fish/004.png", "trees/005.png"]);
    assert_eq!(TokenFile::read(&out).unwrap().classes(), None);

    // A list from Windows; and one of nothing that is there.
    std::fs::write(&list, "fish/001.png\r\nfish/004.png\r\n").unwrap();
    compress(args!["--force", "--files-from", list, root, out]).code(0);
    assert_eq!(text_names(&out), ["fish/001.png", "fish/004.png"]);
    std::fs::write(&list, "gone.png\n").unwrap();
    let none = folder.path("none.vqt");
    let run = compress(args!["--files-from", list, root, none]).code(1);
    assert!(
        run.err.contains("gone.png: ") && run.err.contains("no pictures found"),
        "{run:?}"
    );
    assert!(!none.exists());

    std::fs::write(&list, "../in/fish/001.png").unwrap();
    let run = compress(args!["--force", "--files-from", list, root, out]).code(1);
    assert!(run.err.contains("without '..'"), "{run:?}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_when_told() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    let (root, elsewhere, out) = (
        classes(&folder, "in", 3),
        classes(&folder, "elsewhere", 3),
        folder.path("t.vqt"),
    );
    symlink(elsewhere.join("fish"), root.join("linked")).unwrap();
    symlink(elsewhere.join("birds/000.png"), root.join("one.png")).unwrap();
    symlink(&root, root.join("fish/loop")).unwrap();
    symlink("nowhere", root.join("broken.png")).unwrap();
    symlink("nowhere", root.join("broken.txt")).unwrap();
    let json = compress(args!["--json", root, out]).code(0).json();
    assert_eq!(
        (&json["pictures"], &json["links_not_followed"]),
        (&3.into(), &5.into())
    );
    let run = compress(args!["--json", "--force", "--follow", root, out]).code(3);
    assert_eq!(run.json()["skipped"][0]["name"], "broken.png");
    assert_eq!(
        run.json()["links_not_followed"],
        2,
        "the loop and broken.txt"
    );
    assert_eq!(
        text_names(&out),
        [
            "birds/000.png",
            "fish/001.png",
            "linked/001.png",
            "one.png",
            "trees/002.png"
        ]
    );
    // A link that is named is meant.
    compress(args!["--force", root.join("one.png"), out]).code(0);
    assert_eq!(text_names(&out), ["one.png"]);
}
