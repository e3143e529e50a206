use std::io::Write as _;

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::metrics::frechet_distance;

fn moments() -> Moments {
    let mut moments = Moments::new(3).unwrap();
    let values: Vec<f64> = (0..30).map(|i| f64::from(i * i % 17) / 3.0).collect();
    moments.add(&values).unwrap();
    moments
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let size = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &size[..], header.as_bytes(), data].concat()
}

fn archive(members: &[(&str, Vec<u8>)], method: CompressionMethod) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut zip = ZipWriter::new(file.reopen().unwrap());
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, data) in members {
        zip.start_file(*name, options).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap();
    file
}

fn header(dtype: &str, shape: &str) -> String {
    format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n")
}

fn doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn what_is_written_is_read_and_measures_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    let written = Statistics::of(&moments(), "inception", "ab12", "whole pictures").unwrap();
    written.write(&path).unwrap();
    let first = std::fs::read(&path).unwrap();
    let read = Statistics::read(&path).unwrap();
    assert_eq!(read, written);
    assert_eq!(read.provenance().unwrap().count, 10);
    read.write(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first);

    let mut others = Moments::new(3).unwrap();
    others
        .add(&[1.0, 2.0, 3.0, 0.0, 5.0, 1.0, 2.0, 2.0, 4.0])
        .unwrap();
    let expected = frechet_distance(&moments(), &others).unwrap();
    assert_eq!(frechet_distance(&read, &others).unwrap(), expected);
    assert!(expected > 1.0);
}

#[test]
fn another_networks_file_is_noticed() {
    let ours = Statistics::of(&moments(), "inception", "ab12", "p").unwrap();
    assert!(ours.expect("inception", "ab12", "p").unwrap());
    for (network, weights, protocol) in [
        ("other", "ab12", "p"),
        ("inception", "ab13", "p"),
        ("inception", "ab12", "q"),
    ] {
        assert!(ours.expect(network, weights, protocol).is_err());
    }
    let theirs = Statistics::new(vec![0.0], vec![1.0], None).unwrap();
    assert!(!theirs.expect("inception", "ab12", "p").unwrap());
}

#[test]
fn deflated_files_of_other_programs_are_read() {
    let covariance: Vec<u8> = [4f32, 1.0, 1.0, 9.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let members = [
        ("arr_0.npy", vec![1, 2, 3]),
        ("sigma.npy", npy(&header("<f4", "(2, 2)"), &covariance)),
        (
            "mu.npy",
            npy(&header("<f8", "(2,)"), &doubles(&[1.0, -2.0])),
        ),
    ];
    let file = archive(&members, CompressionMethod::Deflated);
    let read = Statistics::read(file.path()).unwrap();
    let expected = Statistics::new(vec![1.0, -2.0], vec![4.0, 1.0, 1.0, 9.0], None).unwrap();
    assert_eq!(read, expected);
}

#[test]
fn files_that_lie_are_refused() {
    let mean = || npy(&header("<f8", "(2,)"), &doubles(&[1.0, 2.0]));
    let sigma = |shape: &str, data: &[f64]| npy(&header("<f8", shape), &doubles(data));
    let unit = [1.0, 0.0, 0.0, 1.0];
    let huge = "(18446744073709551615, 2)";
    let cases: [(Vec<u8>, Vec<u8>, &str); 11] = [
        (mean(), sigma("(2, 2)", &unit[..3]), "bytes"),
        (mean(), sigma("(2, 2)", &[0.0; 5]), "bytes"),
        (mean(), sigma("(4,)", &unit), "shape"),
        (mean(), sigma(huge, &unit), "shape"),
        (mean(), sigma("(2, 2)", &[1.0, 0.5, -0.5, 1.0]), "symmetric"),
        (mean(), sigma("(2, 2)", &[-1.0, 0.0, 0.0, 1.0]), "variances"),
        (
            mean(),
            sigma("(2, 2)", &[f64::NAN, 0.0, 0.0, 1.0]),
            "finite",
        ),
        (
            npy(&header("<f8", "(9999999999,)"), &[]),
            sigma("(2, 2)", &unit),
            "shape",
        ),
        (
            npy(&header("<f8", "()"), &doubles(&[1.0])),
            sigma("(2, 2)", &unit),
            "shape",
        ),
        (
            npy(&header("|O", "(2,)"), &[0; 16]),
            sigma("(2, 2)", &unit),
            "found |O",
        ),
        (
            npy("{'shape': (2,)}", &[0; 16]),
            sigma("(2, 2)", &unit),
            "understood",
        ),
    ];
    for (mean, sigma, why) in cases {
        let members = [("mu.npy", mean), ("sigma.npy", sigma)];
        let file = archive(&members, CompressionMethod::Stored);
        let error = Statistics::read(file.path()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let file = archive(&[("mu.npy", mean())], CompressionMethod::Stored);
    assert!(Statistics::read(file.path()).is_err());
    std::fs::write(file.path(), b"no archive").unwrap();
    assert!(Statistics::read(file.path()).is_err());
    let members = [
        ("mu.npy", mean()),
        ("sigma.npy", sigma("(2, 2)", &unit)),
        ("vqlc.npy", npy(&header("|u1", "(2,)"), b"{}")),
    ];
    let file = archive(&members, CompressionMethod::Stored);
    let error = Statistics::read(file.path()).unwrap_err().to_string();
    assert!(error.contains("array vqlc"), "{error}");
}
