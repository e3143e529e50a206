//! Pictures written and read again; outputs that fail; names.

mod files;

use files::{decode, encode, scene};
use image::{DynamicImage, ImageFormat};
use vqlc_model::image::{
    Icc, ImageError, OutFormat, ReadOptions, Rgb, is_picture_name, read, write,
};

#[test]
fn written_pictures_come_back() {
    let picture = scene(61, 45);
    let rgb = Rgb {
        width: 61,
        height: 45,
        data: picture.into_raw(),
        icc: Icc::None,
    };
    for format in ["png", "webp", "jpeg"] {
        let format: OutFormat = format.parse().unwrap();
        let mut bytes = Vec::new();
        write(&rgb, format, &mut bytes).unwrap();
        let got = decode(&bytes);
        assert_eq!((got.width, got.height), (61, 45));
        if let OutFormat::Jpeg { .. } = format {
            let sum: u64 = got
                .data
                .iter()
                .zip(&rgb.data)
                .map(|(a, b)| u64::from(a.abs_diff(*b)))
                .sum();
            let mean = sum as f64 / rgb.data.len() as f64;
            assert!(mean < 3.0, "{mean}");
            // Chrominance at full resolution: every component samples 1 x 1.
            let frame = bytes.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
            assert!((0..3).all(|c| bytes[frame + 11 + 3 * c] == 0x11));
        } else {
            assert!(got == rgb, "{format}");
        }
        let mut again = Vec::new();
        write(&rgb, format, &mut again).unwrap();
        assert!(again == bytes, "{format} is not deterministic");
    }
    let nowhere = OutFormat::Jpeg { quality: 0 };
    assert!(matches!(
        write(&rgb, nowhere, Vec::new()),
        Err(ImageError::Settings(_))
    ));
    assert!("tiff".parse::<OutFormat>().is_err());
}

#[test]
fn failing_outputs_and_impossible_sizes_are_errors() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let rgb = Rgb {
        width: 20_000,
        height: 1,
        data: vec![9; 60_000],
        icc: Icc::None,
    };
    for format in [OutFormat::Png, OutFormat::Jpeg { quality: 90 }] {
        match write(&rgb, format, Full) {
            Err(ImageError::Io(error)) => assert_eq!(error.kind(), std::io::ErrorKind::StorageFull),
            other => panic!("{format}: {other:?}"),
        }
    }
    assert!(matches!(
        write(&rgb, OutFormat::Webp, Vec::new()),
        Err(ImageError::Encode(_))
    ));
    let short = Rgb {
        data: vec![9; 10],
        ..rgb
    };
    assert!(matches!(
        write(&short, OutFormat::Png, Vec::new()),
        Err(ImageError::Length { .. })
    ));
}

#[test]
fn names_and_paths() {
    for name in [
        "a.jpg", "a.JPEG", "b/a.jpe", "a.JfIf", "a.png", "a.webp", "a.gif", "a.bmp", "a.dib",
        "a.TIF", "a.tiff", "a.pnm", "a.ppm", "a.pgm", "a.pbm", "a.pam",
    ] {
        assert!(is_picture_name(name.as_ref()), "{name}");
    }
    for name in ["Thumbs.db", "a.txt", "jpg", ".png", "a.jpg.part", "a.", ""] {
        assert!(!is_picture_name(name.as_ref()), "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let options = ReadOptions {
        max_pixels: 100,
        ..ReadOptions::default()
    };
    assert!(matches!(
        read(dir.path(), &options),
        Err(ImageError::NotAFile)
    ));
    assert!(matches!(
        read(&dir.path().join("none.png"), &options),
        Err(ImageError::Io(_))
    ));
    // The name does not matter, the content does.
    let path = dir.path().join("really a bmp.png");
    let picture = DynamicImage::ImageRgb8(scene(9, 8));
    std::fs::write(&path, encode(&picture, ImageFormat::Bmp)).unwrap();
    assert_eq!(
        read(&path, &options).unwrap().data,
        picture.to_rgb8().into_raw()
    );
    // A file far larger than its pixels could be is not read to its end.
    let large = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    large.set_len(1 << 27).unwrap();
    assert!(matches!(
        read(&path, &options),
        Err(ImageError::FileTooLarge { .. })
    ));
}
