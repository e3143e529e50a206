//! The programs are stood in for by scripts, so that these tests need none of them.

use std::{ffi::OsString, os::unix::fs::symlink};

use tempfile::TempDir;
use vqlc_model::image::Icc;

use super::*;

/// A folder in which scripts of `tests/codecs` go by the names of programs.
fn programs(scripts: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (program, script) in scripts {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/codecs")
            .join(script);
        symlink(script, folder.path().join(program)).unwrap();
    }
    folder
}

/// A codec with one file of 100 + 10 q bytes for each quality q, which gives 16 x 16 pixels of the value q back.
pub(crate) fn stand_in() -> (Tool, TempDir) {
    let folder = programs(&[("cjpeg", "stand-in.sh"), ("djpeg", "stand-in.sh")]);
    let tool = OtherCodec::Jpeg.find_on(folder.path().as_os_str());
    (tool.unwrap(), folder)
}

pub(crate) fn plain(width: u32, height: u32, value: u8) -> Rgb {
    Rgb {
        width,
        height,
        data: vec![value; width as usize * height as usize * 3],
        icc: Icc::None,
    }
}

#[test]
fn what_is_not_installed_is_named_with_its_package() {
    let folder = programs(&[("cjpeg", "stand-in.sh")]);
    let missing = |codec: OtherCodec| {
        let found = codec.find_on(folder.path().as_os_str());
        found.unwrap_err().to_string()
    };
    assert_eq!(
        missing(OtherCodec::Jpeg),
        "djpeg is not on the PATH: install it (package libjpeg-turbo-progs in Debian and Ubuntu), or leave jpeg out"
    );
    for codec in OtherCodec::value_variants() {
        assert!(missing(*codec).contains(codec.name()));
    }
}

#[test]
fn the_file_nearest_to_a_size_comes_back() {
    let (tool, _folder) = stand_in();
    assert_eq!(tool.version().unwrap(), "stand-in 1.0");
    let once = programs(&[("cjpeg", "stand-in.sh"), ("djpeg", "stand-in.sh")]);
    let gone = OtherCodec::Jpeg.find_on(once.path().as_os_str()).unwrap();
    gone.version().unwrap();
    drop(once);
    assert_eq!(gone.version().unwrap(), "stand-in 1.0", "it is asked once");
    let protocol = tool.protocol().unwrap();
    assert!(protocol.starts_with("cjpeg (stand-in 1.0): -quality 0 to 100"));
    let picture = plain(16, 16, 0);
    let sizes = [544, 546, 1, 100_000, 544];
    let coded = tool.curve(&picture, &sizes).unwrap();
    for (coded, quality) in coded.iter().zip([44, 45, 0, 100, 44]) {
        assert_eq!(coded.bytes, 100 + 10 * u64::from(quality));
        assert_eq!(coded.picture.data, plain(16, 16, quality).data);
    }
    assert_eq!(coded.len(), sizes.len());
}

#[test]
fn a_program_that_fails_is_one_clear_line() {
    let nearest = |encoder, decoder, width| {
        let folder = programs(&[("cjpeg", encoder), ("djpeg", decoder)]);
        let tool = OtherCodec::Jpeg.find_on(folder.path().as_os_str()).unwrap();
        let error = tool.curve(&plain(width, 16, 0), &[300]).unwrap_err();
        format!("{error:#}")
    };
    let broken = nearest("broken.sh", "stand-in.sh", 16);
    assert!(
        broken.ends_with("/cjpeg failed (exit status: 3): cannot do it"),
        "{broken}"
    );
    let killed = nearest("stand-in.sh", "killed.sh", 16);
    assert!(killed.contains("/djpeg failed (signal: 9"), "{killed}");
    let other = nearest("stand-in.sh", "stand-in.sh", 17);
    assert!(
        other.ends_with("/djpeg: expected 17 x 16 pixels, found 16 x 16"),
        "{other}"
    );
}

#[test]
fn lists_of_codecs() {
    let list = |text: &str| text.parse::<CodecList>().map(|list| list.0);
    use OtherCodec::{Avif, Jpeg, JpegXl, WebP};
    assert_eq!(list("all").unwrap(), [Jpeg, WebP, Avif, JpegXl]);
    assert_eq!(list("jxl,jpeg,jxl").unwrap(), [JpegXl, Jpeg]);
    for wrong in ["", "png", "jpeg,", "all,jpeg"] {
        assert!(list(wrong).unwrap_err().contains("codecs are"), "{wrong}");
    }
}

#[test]
fn the_protocol_of_jpeg_xl_names_its_settings() {
    let recipe = Recipe::of(OtherCodec::JpegXl);
    let told = |setting| (recipe.setting)(setting);
    let quartered = |setting: &u32| told(*setting)[2] == "--resampling=4";
    let count = (0..recipe.settings).filter(quartered).count() as u32;
    let distance = |setting| told(setting)[1].clone();
    let words = format!(
        "-d {} to {} with --resampling=4, then {} to {} with 1, ",
        distance(0),
        distance(count - 1),
        distance(count),
        distance(recipe.settings - 1)
    );
    assert!(recipe.words.starts_with(&words), "{words}");
}

#[test]
fn programs_are_told_each_setting_once_and_where_their_files_are() {
    let (input, output) = (Path::new("a"), Path::new("b"));
    for codec in OtherCodec::value_variants() {
        let recipe = Recipe::of(*codec);
        let told = |setting| recipe.encode(setting, input, output);
        let all: std::collections::BTreeSet<_> = (0..recipe.settings).map(told).collect();
        assert_eq!(all.len(), recipe.settings as usize, "{codec:?}");
    }
    let ends = |codec, expected: &[&str]| {
        let recipe = Recipe::of(codec);
        for told in [
            recipe.encode(0, input, output),
            recipe.decode(input, output),
        ] {
            assert!(told.ends_with(&expected.iter().map(OsString::from).collect::<Vec<_>>()));
        }
    };
    ends(OtherCodec::Jpeg, &["-outfile", "b", "a"]);
    ends(OtherCodec::WebP, &["-o", "b", "a"]);
    ends(OtherCodec::Avif, &["a", "b"]);
    ends(OtherCodec::JpegXl, &["a", "b"]);
}
