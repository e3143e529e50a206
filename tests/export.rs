//! `vqlc export`: arrays that numpy reads, whole or not at all.

mod common;

use std::path::Path;

use common::{Folder, flip, label, spec, token_file, vqlc};
use vqlc_format::{Grid, Spec, TokenFile, records};

/// Reads a `.npy` file of little-endian uint32 by the letter of its format: the shape and the values.
fn read_npy(bytes: &[u8]) -> (Vec<u64>, Vec<u32>) {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!((10 + len) % 64, 0);
    let header = std::str::from_utf8(&bytes[10..10 + len]).unwrap();
    assert!(
        header.starts_with("{'descr': '<u4', 'fortran_order': False, 'shape': (")
            && header.ends_with('\n'),
        "{header}"
    );
    let shape = header.split(['(', ')']).nth(1).unwrap();
    let shape = shape
        .split(',')
        .map(str::trim)
        .filter(|axis| !axis.is_empty())
        .map(|axis| axis.parse().unwrap())
        .collect();
    let values = bytes[10 + len..]
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    (shape, values)
}

fn read_npy_file(path: &Path) -> (Vec<u64>, Vec<u32>) {
    read_npy(&std::fs::read(path).unwrap())
}

#[test]
fn ids_and_labels_arrive() {
    let folder = Folder::new();
    let (path, out, labels) = (
        folder.path("t.vqt"),
        folder.path("ids.npy"),
        folder.path("labels.npy"),
    );
    let ids = token_file(
        &path,
        &Spec {
            views: vec!["a".into(), "b".into()],
            ..spec()
        },
        25,
    );
    let run = vqlc(args!["export", path, out, "--labels", labels]).code(0);
    assert!(
        run.out.is_empty() && run.err.contains("ids.npy: uint32 [50, 4, 4]"),
        "{run:?}"
    );
    assert_eq!(read_npy_file(&out), (vec![50, 4, 4], ids));
    // One label a record, so that the first axes agree; pictures without one have the largest number.
    let expected: Vec<u32> = (0..50)
        .map(|record| label(record / 2).unwrap_or(u32::MAX))
        .collect();
    assert_eq!(read_npy_file(&labels), (vec![50], expected));
    assert_eq!(folder.listing(), ["ids.npy", "labels.npy", "t.vqt"]);
}

#[test]
fn no_records_make_an_empty_array() {
    let folder = Folder::new();
    let (path, out) = (folder.path("t.vqt"), folder.path("ids.npy"));
    token_file(&path, &spec(), 0);
    let json = vqlc(args!["export", "--json", path, out]).code(0).json();
    assert_eq!(
        (&json["records"], &json["rows"], &json["cols"]),
        (&0.into(), &4.into(), &4.into())
    );
    assert_eq!(read_npy_file(&out), (vec![0, 4, 4], vec![]));
}

#[test]
fn stdout_takes_the_ids() {
    let folder = Folder::new();
    let path = folder.path("t.vqt");
    let ids = token_file(&path, &spec(), 30);
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_vqlc"))
        .args(args!["export", path, "-"])
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!(read_npy(&output.stdout), (vec![30, 4, 4], ids));
    vqlc(args!["export", "--json", path, "-"]).code(1);
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let folder = Folder::new();
    let path = folder.path("t.vqt");
    // More than a pipe holds.
    token_file(&path, &spec(), 20_000);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_vqlc"))
        .args(args!["export", path, "-"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), b"".as_slice())
    );
}

#[test]
fn refusals_leave_nothing_behind() {
    let folder = Folder::new();
    let (path, out, labels) = (
        folder.path("t.vqt"),
        folder.path("ids.npy"),
        folder.path("labels.npy"),
    );
    token_file(
        &path,
        &Spec {
            grid: Grid::Varying,
            ..spec()
        },
        9,
    );
    let run = vqlc(args!["export", path, out]).code(1);
    assert!(run.err.contains("grids of different sizes"), "{run:?}");

    token_file(
        &path,
        &Spec {
            classes: None,
            ..spec()
        },
        9,
    );
    let run = vqlc(args!["export", path, out, "--labels", labels]).code(1);
    assert!(run.err.contains("no labels"), "{run:?}");
    vqlc(args!["export", path, folder.path("no/such/folder.npy")]).code(1);

    token_file(&path, &spec(), 50);
    vqlc(args!["export", path, out, "--labels", out]).code(1);
    vqlc(args!["export", path, out, "--labels", "-"]).code(1);
    // The last ids: found when most of the array is written.
    let file = TokenFile::read(&path).unwrap();
    let blocks = file
        .header()
        .sections
        .iter()
        .find(|section| section.kind == records::BLOCKS)
        .unwrap();
    flip(&path, blocks.offset + blocks.length - 10);
    vqlc(args!["export", path, out, "--labels", labels]).code(4);
    assert_eq!(folder.listing(), ["t.vqt"]);
}

#[test]
fn existing_files_stay_unless_forced() {
    let folder = Folder::new();
    let (path, out, labels) = (
        folder.path("t.vqt"),
        folder.path("ids.npy"),
        folder.path("labels.npy"),
    );
    let ids = token_file(&path, &spec(), 9);
    std::fs::write(&labels, "precious").unwrap();
    let run = vqlc(args!["export", path, out, "--labels", labels]).code(1);
    assert!(
        run.err.contains("labels.npy exists already") && !out.exists(),
        "{run:?}"
    );
    assert_eq!(std::fs::read(&labels).unwrap(), b"precious");
    vqlc(args!["export", "--force", path, out, "--labels", labels]).code(0);
    assert_eq!(read_npy_file(&out).1, ids);
    assert_eq!(read_npy_file(&labels).0, [9]);
    // Not onto the input, the other output or what is no file, even when forced.
    let before = std::fs::read(&path).unwrap();
    let roundabout = folder.path("./t.vqt");
    for wrong in [
        args!["export", "--force", path, roundabout].to_vec(),
        args!["export", "--force", path, out, "--labels", roundabout].to_vec(),
        args![
            "export",
            "--force",
            path,
            out,
            "--labels",
            folder.path("./ids.npy")
        ]
        .to_vec(),
        args!["export", "--force", path, "/dev/null"].to_vec(),
    ] {
        vqlc(&wrong).code(1);
    }
    assert!(std::fs::read(&path).unwrap() == before);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        std::fs::write(folder.path("plain"), "").unwrap();
        assert_eq!(
            mode(&out),
            mode(&folder.path("plain")),
            "an array is an ordinary file"
        );
    }
}
