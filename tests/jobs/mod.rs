//! What the tests of compress and decompress share: small pictures, a tiny model in a file, and running jobs with it.
// Each test file is a program of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image::{Rgb, RgbImage};
use vqlc_format::TokenFile;

use crate::common::{Folder, Run, tiny_model, vqlc};

/// Side of the squares that jobs here cut.
pub const SIZE: &str = "64";

/// A model file with tiny random weights, written once for all tests of a program.
pub fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| model_file("jobs", 1))
}

/// Writes the tiny model of a seed, one file for each test program and `name`.
pub fn model_file(name: &str, seed: u64) -> PathBuf {
    let file = format!("{name}-{}.safetensors", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    tiny_model(seed).write(&path).unwrap();
    path
}

/// A picture of smooth colours that depend on `seed`.
pub fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |k: u32| {
            (127.5 + 127.0 * ((x * (k + seed % 5) + y * (seed % 7 + 1)) as f32 / 40.0).sin()) as u8
        };
        Rgb([wave(1), wave(2), wave(3)])
    })
}

/// Writes a picture in the format its name says; makes the folders it lies in.
pub fn put(path: &Path, seed: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture(80 + seed % 3 * 8, 72 + seed % 4 * 5, seed)
        .save(path)
        .unwrap();
}

/// `count` pictures in folders named as classes, with a text file among them.
pub fn classes(folder: &Folder, name: &str, count: u32) -> PathBuf {
    let root = folder.path(name);
    for seed in 0..count {
        let class = ["birds", "fish", "trees"][seed as usize % 3];
        put(&root.join(class).join(format!("{seed:03}.png")), seed);
    }
    std::fs::write(root.join("birds/notes.txt"), "no picture").unwrap();
    root
}

/// Arguments of a compress job with the tiny model.
pub fn compress_args<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["compress".into(), "--model".into(), model().into()];
    all.extend(args.into_iter().map(Into::into));
    if !all.iter().any(|arg| arg == "whole") {
        all.extend(["--size".into(), SIZE.into()]);
    }
    all
}

/// Runs compress with the tiny model.
pub fn compress<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Run {
    vqlc(compress_args(args))
}

/// Runs decompress with the tiny model.
pub fn decompress<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Run {
    let mut all: Vec<OsString> = vec!["decompress".into(), "--model".into(), model().into()];
    all.extend(args.into_iter().map(Into::into));
    vqlc(all)
}

/// The recorded names of a token file.
pub fn names(path: &Path) -> Vec<Vec<u8>> {
    TokenFile::read(path)
        .unwrap()
        .names()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// The recorded names of a token file, as text.
pub fn text_names(path: &Path) -> Vec<String> {
    names(path)
        .into_iter()
        .map(|name| String::from_utf8(name).unwrap())
        .collect()
}

/// Every file below a folder by its relative path, sorted.
pub fn tree(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(
                    entry
                        .path()
                        .strip_prefix(root)
                        .unwrap()
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
    }
    files.sort();
    files
}
