//! Files that are cut short, damaged, or announce more than they hold.

mod files;

use std::io::Cursor;

use files::{PngParts, fixture, png, scene};
use image::{DynamicImage, ImageFormat};
use vqlc_model::image::{ImageError, ReadOptions, Rgb, read_bytes};

const FIXTURES: [&str; 6] = [
    "rgb_odd.png",
    "gray_small.png",
    "rgba.png",
    "gray16.png",
    "exif_orient.jpg",
    "cmyk.jpg",
];

/// The reference pictures, and one small picture in every other format.
fn good_files() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = FIXTURES
        .iter()
        .map(|name| {
            let path = fixture("preprocess").join(name);
            (name.to_string(), std::fs::read(path).unwrap())
        })
        .collect();
    let picture = DynamicImage::ImageRgb8(scene(24, 20));
    for format in [
        ImageFormat::Bmp,
        ImageFormat::Gif,
        ImageFormat::Tiff,
        ImageFormat::WebP,
        ImageFormat::Pnm,
    ] {
        let mut out = Cursor::new(Vec::new());
        picture.write_to(&mut out, format).unwrap();
        files.push((format!("{format:?}"), out.into_inner()));
    }
    let still = files[9].1.clone();
    files.push((
        "animated WebP".to_owned(),
        files::animated_webp(24, 20, &[still.clone(), still]),
    ));
    let palette: Vec<u16> = (0..12).map(|v| v * 5000).collect();
    files.push((
        "palette TIFF".to_owned(),
        files::tiff(true, 4, 1, 3, &[2], &[0b00_01_10_11], Some(&palette), None),
    ));
    files
}

/// Reads with small limits, as damaged sizes may ask for much.
fn attempt(bytes: &[u8]) -> Result<Rgb, ImageError> {
    let options = ReadOptions {
        max_pixels: 1 << 20,
        ..ReadOptions::default()
    };
    read_bytes(bytes, &options)
}

#[test]
fn a_cut_file_is_an_error_or_whole() {
    for (name, bytes) in good_files() {
        let whole = attempt(&bytes).unwrap();
        // Every cut near both ends, where the structure is, and some two hundred between.
        let step = (bytes.len() / 200).max(1);
        let cuts =
            (0..bytes.len()).filter(|cut| *cut < 300 || bytes.len() - cut < 100 || cut % step == 0);
        for cut in cuts {
            if let Ok(got) = attempt(&bytes[..cut]) {
                assert!(
                    got == whole,
                    "{name} cut at {cut} of {} is another picture",
                    bytes.len()
                );
            }
        }
        // Half of a picture must not pass for one.
        assert!(attempt(&bytes[..bytes.len() / 2]).is_err(), "{name}");
    }
}

#[test]
fn damaged_files_never_panic() {
    // splitmix64
    let mut state = 20_261_123_u64;
    let mut random = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    };
    let (mut refused, mut read) = (0, 0);
    for (_, bytes) in good_files() {
        for round in 0..150 {
            let mut damaged = bytes.clone();
            // Half of the damage goes into the headers.
            let range = if round % 2 == 0 {
                damaged.len().min(120)
            } else {
                damaged.len()
            };
            for _ in 0..=random() % 4 {
                damaged[(random() % range as u64) as usize] = random() as u8;
            }
            match attempt(&damaged) {
                Ok(rgb) => {
                    assert_eq!(rgb.data.len(), rgb.width as usize * rgb.height as usize * 3);
                    read += 1;
                }
                // Caught, but a defect of a decoder all the same; none is known, and a new one should be seen.
                Err(ImageError::DecoderPanic(message)) => panic!("a decoder panicked: {message}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(
        refused > 100 && read > 100,
        "{refused} refused, {read} read"
    );
}

#[test]
fn bombs_are_refused_by_their_header() {
    let rows = vec![0; 100];
    let bomb = PngParts {
        width: 60_000,
        height: 60_000,
        bits: 8,
        color: 2,
        rows,
        before: vec![],
        after: vec![],
    };
    let mut gif = b"GIF89a".to_vec();
    gif.extend([60_000_u16.to_le_bytes(), 60_000_u16.to_le_bytes()].concat());
    gif.extend([0, 0, 0, b',', 0, 0, 0, 0]);
    gif.extend([60_000_u16.to_le_bytes(), 60_000_u16.to_le_bytes()].concat());
    gif.extend([0, 2, 1, 0, 0, b';']);
    let mut bmp = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.extend([60_000_i32.to_le_bytes(), 60_000_i32.to_le_bytes()].concat());
    bmp.extend([1, 0, 24, 0]);
    bmp.extend([0; 24]);
    let mut jpeg = std::fs::read(fixture("preprocess/exif_orient.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xEA);
    let mut webp = b"RIFF\x1E\0\0\0WEBPVP8X\x0A\0\0\0\x10\0\0\0".to_vec();
    webp.extend([0xFF, 0x3F, 0, 0xFF, 0x3F, 0]);
    webp.extend(b"VP8 \0\0\0\0");
    let small = attempt_size(&png(&bomb));
    assert_eq!(small, Some((60_000, 60_000)));
    assert_eq!(attempt_size(&gif), Some((60_000, 60_000)));
    assert_eq!(attempt_size(&bmp), Some((60_000, 60_000)));
    assert_eq!(attempt_size(&jpeg), Some((0xEAEA, 0xEAEA)));
    assert_eq!(
        attempt_size(b"P6 60000 60000 255\nxx"),
        Some((60_000, 60_000))
    );
    assert_eq!(
        attempt_size(b"P5 4294967295 4294967295 255\nxx"),
        Some((u32::MAX, u32::MAX))
    );
    let tiff = files::tiff(false, 60_000, 60_000, 1, &[8], &[0; 50], None, None);
    assert_eq!(attempt_size(&tiff), Some((60_000, 60_000)));
    // Whatever this one is refused for, it is refused.
    assert!(attempt(&webp).is_err());
}

/// The announced size, if that is what a file is refused for.
fn attempt_size(bytes: &[u8]) -> Option<(u32, u32)> {
    match attempt(bytes) {
        Err(ImageError::TooManyPixels {
            width,
            height,
            max_pixels,
        }) => {
            assert_eq!(max_pixels, 1 << 20);
            Some((width, height))
        }
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    }
}

#[test]
fn the_limit_is_inclusive() {
    let bytes = std::fs::read(fixture("preprocess/rgb_odd.png")).unwrap();
    let whole = attempt(&bytes).unwrap();
    let pixels = u64::from(whole.width) * u64::from(whole.height);
    let with = |max_pixels| {
        read_bytes(
            &bytes,
            &ReadOptions {
                max_pixels,
                ..ReadOptions::default()
            },
        )
    };
    assert!(with(pixels).is_ok());
    assert!(matches!(
        with(pixels - 1),
        Err(ImageError::TooManyPixels { .. })
    ));
}

#[test]
fn other_files_are_not_pictures() {
    for bytes in [
        &b""[..],
        b"hello, world",
        b"<svg></svg>",
        &[0; 1000],
        b"\xFF\xD8\xFF",
        b"\x89PNG\r\n\x1a\n",
        b"II*\0",
        b"BM",
        b"GIF89a",
        b"P6",
    ] {
        assert!(attempt(bytes).is_err(), "{bytes:?}");
    }
    assert!(matches!(
        attempt(b"hello, world"),
        Err(ImageError::UnknownFormat)
    ));
    // Known, but not one of ours.
    assert!(matches!(
        attempt(b"\0\0\x01\0\x01\0\x10\x10\0\0"),
        Err(ImageError::Unsupported(_))
    ));
}
