//! How each codec's programs are told what to do.

use std::{ffi::OsString, path::Path};

use super::OtherCodec;

/// A codec's programs and arguments. Settings are numbers from 0; files mostly grow with them.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) encoder: &'static str,
    pub(super) decoder: &'static str,
    /// Debian's and Ubuntu's package with both.
    pub(super) package: &'static str,
    /// The argument that asks the encoder for its version.
    pub(super) version: &'static str,
    /// Endings of the pictures given to the encoder and taken from the decoder.
    pub(super) input: &'static str,
    pub(super) output: &'static str,
    /// How many settings there are.
    pub(super) settings: u32,
    /// The arguments of a setting.
    pub(super) setting: fn(u32) -> Vec<String>,
    /// The encoder's other arguments.
    always: &'static [&'static str],
    /// The decoder's arguments.
    back: &'static [&'static str],
    /// What stands before the name of the output, which then comes before the input's; else the output's name is the last.
    out: Option<&'static str>,
    /// For the protocol.
    pub(super) words: &'static str,
}

/// Butteraugli distances of JPEG XL, from the largest that every version takes.
const DISTANCES: [&str; 28] = [
    "15", "14", "13", "12", "11", "10", "9", "8", "7", "6.5", "6", "5.5", "5", "4.5", "4", "3.5",
    "3", "2.7", "2.4", "2.1", "1.8", "1.5", "1.2", "1", "0.8", "0.6", "0.4", "0.2",
];
/// So many of them, the first, are also those at which pictures are coded at a quarter of their sides: beyond, the whole picture at distance 15 is as small.
const QUARTERED: u32 = 19;

const JPEG: Recipe = Recipe {
    encoder: "cjpeg",
    decoder: "djpeg",
    package: "libjpeg-turbo-progs",
    version: "-version",
    input: "ppm",
    output: "ppm",
    settings: 101,
    setting: |q| vec!["-quality".into(), q.to_string()],
    // Baseline: the headers of progressive scans cost more than they save in files of a few kB.
    always: &["-optimize", "-baseline", "-sample", "2x2"],
    out: Some("-outfile"),
    back: &["-ppm"],
    words: "-quality 0 to 100, -optimize -baseline -sample 2x2 (4:2:0)",
};

const WEBP: Recipe = Recipe {
    encoder: "cwebp",
    decoder: "dwebp",
    package: "webp",
    version: "-version",
    input: "ppm",
    output: "ppm",
    settings: 101,
    setting: |q| vec!["-q".into(), q.to_string()],
    // One segment: the smallest files, and the nearer pictures at the same size.
    always: &["-quiet", "-m", "6", "-segments", "1", "-metadata", "none"],
    out: Some("-o"),
    back: &["-quiet", "-ppm"],
    words: "lossy, -q 0 to 100, -m 6 -segments 1 -metadata none (4:2:0)",
};

const AVIF: Recipe = Recipe {
    encoder: "avifenc",
    decoder: "avifdec",
    package: "libavif-bin",
    version: "--version",
    input: "png",
    output: "png",
    settings: 64,
    // Quantizers count downwards.
    setting: |q| {
        let quantizer = 63_u32.saturating_sub(q).to_string();
        vec!["--min".into(), quantizer.clone(), "--max".into(), quantizer]
    },
    // 4:4:4 comes nearer at the same size than 4:2:0 does, in R, G and B.
    always: &[
        "-j",
        "1",
        "-s",
        "4",
        "-y",
        "444",
        "--ignore-exif",
        "--ignore-xmp",
        "--ignore-icc",
    ],
    out: None,
    back: &["-j", "1"],
    words: "--min and --max 63 to 0, -s 4 -y 444",
};

const JXL: Recipe = Recipe {
    encoder: "cjxl",
    decoder: "djxl",
    package: "libjxl-tools",
    version: "--version",
    input: "ppm",
    output: "ppm",
    settings: QUARTERED + DISTANCES.len() as u32,
    setting: |setting| {
        let (distance, resampling) = match setting.checked_sub(QUARTERED) {
            Some(whole) => (whole, "1"),
            None => (setting, "4"),
        };
        let distance = DISTANCES.get(distance as usize).unwrap_or(&"0.2");
        vec![
            "-d".into(),
            (*distance).into(),
            format!("--resampling={resampling}"),
        ]
    },
    always: &["--num_threads=0", "--container=0", "-e", "7"],
    out: None,
    back: &["--num_threads=0"],
    words: "-d 15 to 2.4 with --resampling=4, then 15 to 0.2 with 1, -e 7 --container=0 (XYB, 4:4:4)",
};

impl Recipe {
    pub(super) fn of(codec: OtherCodec) -> &'static Self {
        match codec {
            OtherCodec::Jpeg => &JPEG,
            OtherCodec::WebP => &WEBP,
            OtherCodec::Avif => &AVIF,
            OtherCodec::JpegXl => &JXL,
        }
    }

    /// The encoder's arguments.
    pub(super) fn encode(&self, setting: u32, input: &Path, output: &Path) -> Vec<OsString> {
        let options = (self.setting)(setting).into_iter().map(OsString::from);
        let options = options.chain(self.always.iter().map(OsString::from));
        options.chain(self.names(input, output)).collect()
    }

    /// The decoder's arguments.
    pub(super) fn decode(&self, input: &Path, output: &Path) -> Vec<OsString> {
        let options = self.back.iter().map(OsString::from);
        options.chain(self.names(input, output)).collect()
    }

    fn names(&self, input: &Path, output: &Path) -> Vec<OsString> {
        match self.out {
            Some(flag) => vec![flag.into(), output.into(), input.into()],
            None => vec![input.into(), output.into()],
        }
    }
}
