//! Reading and writing picture files: every format and kind of pixel, orientation, colour profiles.

mod files;

use files::{PngParts, decode, encode, flat_quadrants, insert_app1, orientation_exif, png, scene};
use image::{
    ColorType, DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat, RgbImage, RgbaImage,
    codecs::{gif::GifEncoder, jpeg::JpegEncoder, png::PngEncoder},
};
use vqlc_model::image::{Icc, ImageError, ReadOptions, read_bytes};

fn replicate(gray: &[u8]) -> Vec<u8> {
    gray.iter().flat_map(|&v| [v; 3]).collect()
}

/// round((v * alpha + background * (255 - alpha)) / 255)
fn over(v: u8, alpha: u8, background: u8) -> u8 {
    let (v, a, b) = (f64::from(v), f64::from(alpha), f64::from(background));
    ((v * a + b * (255.0 - a)) / 255.0).round() as u8
}

#[test]
fn lossless_formats_give_every_pixel_back() {
    let rgb = scene(61, 45);
    let picture = DynamicImage::ImageRgb8(rgb.clone());
    for format in [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::WebP,
        ImageFormat::Pnm,
    ] {
        let got = decode(&encode(&picture, format));
        assert_eq!((got.width, got.height), (61, 45), "{format:?}");
        assert!(got.data == *rgb.as_raw(), "{format:?}");
        assert_eq!(got.icc, Icc::None);
    }
    let gray = picture.to_luma8();
    for format in [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Pnm,
    ] {
        let got = decode(&encode(&DynamicImage::ImageLuma8(gray.clone()), format));
        assert!(got.data == replicate(gray.as_raw()), "grey {format:?}");
    }
}

#[test]
fn jpeg_is_near() {
    let rgb = scene(61, 45);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 100)
        .write_image(&rgb, 61, 45, ExtendedColorType::Rgb8)
        .unwrap();
    let got = decode(&bytes);
    let max = got
        .data
        .iter()
        .zip(rgb.as_raw())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(max < Some(6), "{max:?}");
}

#[test]
fn sixteen_bits_are_rounded() {
    let values: Vec<u16> = (0..64 * 48 * 4)
        .map(|i| (i * 7919 % 65536) as u16)
        .collect();
    let eight = |v: u16| (f64::from(v) / 257.0).round() as u8;
    for (color, channels, alpha) in [
        (ColorType::L16, 1, false),
        (ColorType::La16, 2, true),
        (ColorType::Rgb16, 3, false),
        (ColorType::Rgba16, 4, true),
    ] {
        let values = &values[..64 * 48 * channels];
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&raw, 64, 48, color.into())
            .unwrap();
        let expected: Vec<u8> = values
            .chunks(channels)
            .flat_map(|pixel| {
                let color: Vec<u8> = pixel.iter().map(|&v| eight(v)).collect();
                let opacity = if alpha { color[channels - 1] } else { 255 };
                let level =
                    move |c: usize| over(color[if channels < 3 { 0 } else { c }], opacity, 255);
                (0..3).map(level).collect::<Vec<_>>()
            })
            .collect();
        assert!(decode(&bytes).data == expected, "{color:?}");
    }
}

#[test]
fn alpha_lies_over_the_given_colour() {
    let mut picture = RgbaImage::new(16, 16);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        pixel.0 = [200, 10, (x * 16) as u8, (y * 16 + x) as u8];
    }
    let dynamic = DynamicImage::ImageRgba8(picture.clone());
    let background = [7, 130, 250];
    let options = ReadOptions {
        background,
        ..ReadOptions::default()
    };
    for format in [
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Tiff,
        ImageFormat::Bmp,
    ] {
        let got = read_bytes(&encode(&dynamic, format), &options).unwrap();
        let expected: Vec<u8> = picture
            .pixels()
            .flat_map(|p| [0, 1, 2].map(|c| over(p.0[c], p.0[3], background[c])))
            .collect();
        assert!(got.data == expected, "{format:?}");
    }
}

#[test]
fn palettes_and_bit_maps() {
    let palette = vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7];
    // Four 2-bit indices: 0 1 2 3.
    let mut parts = PngParts {
        width: 4,
        height: 1,
        bits: 2,
        color: 3,
        rows: vec![0b00_01_10_11],
        before: vec![(*b"PLTE", palette)],
        after: vec![],
    };
    assert_eq!(
        decode(&png(&parts)).data,
        [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7]
    );
    parts.before.push((*b"tRNS", vec![255, 0, 128]));
    assert_eq!(
        decode(&png(&parts)).data,
        [255, 0, 0, 255, 255, 255, 127, 127, 255, 9, 8, 7]
    );
    let bit_map = PngParts {
        width: 10,
        height: 2,
        bits: 1,
        color: 0,
        rows: vec![0b1010_0000, 0b0100_0000, 0xFF, 0xC0],
        before: vec![],
        after: vec![],
    };
    let expected: Vec<u8> = [255, 0, 255, 0, 0, 0, 0, 0, 0, 255]
        .into_iter()
        .chain([255; 10])
        .collect();
    assert_eq!(decode(&png(&bit_map)).data, replicate(&expected));
    assert_eq!(
        decode(b"P1 3 2 0 1 0 1 1 0").data,
        replicate(&[255, 0, 255, 0, 0, 255])
    );
    // White is what the header says it is.
    assert_eq!(decode(b"P2 3 1 15 0 7 15").data, replicate(&[0, 119, 255]));
}

#[test]
fn tiff_kinds_that_need_help() {
    let expected = [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7];
    let palette: Vec<u16> = [0, 1, 2]
        .iter()
        .flat_map(|c| (0..4).map(move |i| u16::from(expected[i * 3 + c]) << 8))
        .collect();
    for big_endian in [false, true] {
        let file = files::tiff(
            big_endian,
            4,
            1,
            3,
            &[2],
            &[0b00_01_10_11],
            Some(&palette),
            None,
        );
        assert_eq!(
            decode(&file).data,
            expected,
            "palette, big endian {big_endian}"
        );
        let bits = files::tiff(
            big_endian,
            10,
            2,
            0,
            &[1],
            &[0x5F, 0xBF, 0, 0x3F],
            None,
            None,
        );
        let mut white: Vec<u8> = vec![255, 0, 255, 0, 0, 0, 0, 0, 0, 255];
        white.extend([255; 10]);
        assert_eq!(decode(&bits).data, replicate(&white), "white is zero");
        let floats: Vec<u8> = [0.0_f32, 0.5, 1.0, 2.0, f32::NAN, -1.0]
            .iter()
            .flat_map(|v| {
                if big_endian {
                    v.to_be_bytes()
                } else {
                    v.to_le_bytes()
                }
            })
            .collect();
        let file = files::tiff(big_endian, 2, 1, 2, &[32; 3], &floats, None, None);
        assert_eq!(
            decode(&file).data,
            [0, 128, 255, 255, 0, 0],
            "floating point"
        );
    }
    // Grey with alpha: 1 = associated (premultiplied), 2 = not.
    let file = files::tiff(
        false,
        2,
        1,
        1,
        &[8, 8],
        &[100, 255, 100, 128],
        None,
        Some(2),
    );
    assert_eq!(decode(&file).data, replicate(&[100, over(100, 128, 255)]));
    let file = files::tiff(false, 2, 1, 1, &[8, 8], &[100, 255, 50, 128], None, Some(1));
    assert_eq!(decode(&file).data, replicate(&[100, over(100, 128, 255)]));
    // Without a word on what it is, it is not alpha.
    let file = files::tiff(false, 1, 1, 2, &[8; 4], &[1, 2, 3, 0], None, Some(0));
    assert_eq!(decode(&file).data, [1, 2, 3]);
    let cmyk = files::tiff(
        false,
        2,
        1,
        5,
        &[8; 4],
        &[0, 0, 0, 0, 255, 0, 100, 51],
        None,
        None,
    );
    assert_eq!(decode(&cmyk).data, [255, 255, 255, 0, 204, 124]);
    let bright: Vec<u8> = [0.0_f32, 77.0, 255.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let file = files::tiff(false, 1, 1, 2, &[32; 3], &bright, None, None);
    assert!(matches!(
        read_bytes(&file, &ReadOptions::default()),
        Err(ImageError::Unsupported(_))
    ));
}

#[test]
fn animations_give_their_first_frame() {
    let first = scene(24, 20);
    let mut second = first.clone();
    second.iter_mut().for_each(|v| *v = !*v);
    // Few colours, so that the palette holds them.
    let poster = |picture: &RgbImage| {
        let mut rgba = DynamicImage::ImageRgb8(picture.clone()).to_rgba8();
        rgba.pixels_mut()
            .for_each(|p| p.0 = [p.0[0] & 0x80, p.0[1] & 0x80, p.0[2] & 0x80, 255]);
        rgba
    };
    let mut gif = Vec::new();
    {
        let mut encoder = GifEncoder::new(&mut gif);
        for picture in [&first, &second] {
            encoder
                .encode_frame(image::Frame::new(poster(picture)))
                .unwrap();
        }
    }
    let expected = DynamicImage::ImageRgba8(poster(&first)).to_rgb8();
    assert!(decode(&gif).data == *expected.as_raw(), "GIF");

    let frames =
        [first.clone(), second].map(|p| encode(&DynamicImage::ImageRgb8(p), ImageFormat::WebP));
    let webp = files::animated_webp(24, 20, &frames);
    // The decoder blends frames in integers and may lose a level doing so.
    let got = decode(&webp).data;
    let max = got
        .iter()
        .zip(first.as_raw())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(got.len() == first.len() && max <= Some(1), "WebP: {max:?}");
}

#[test]
fn pictures_are_turned_upright() {
    let stored = flat_quadrants(16, 32);
    let upright = |orientation: u8| {
        let mut picture = DynamicImage::ImageRgb8(stored.clone());
        picture = match orientation {
            2 => picture.fliph(),
            3 => picture.rotate180(),
            4 => picture.flipv(),
            5 => picture.rotate90().fliph(),
            6 => picture.rotate90(),
            7 => picture.rotate270().fliph(),
            8 => picture.rotate270(),
            _ => picture,
        };
        picture.to_rgb8()
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 100)
        .write_image(&stored, 16, 32, ExtendedColorType::Rgb8)
        .unwrap();
    let rows: Vec<u8> = stored.as_raw().clone();
    // 0 and 9 are not orientations: the picture stays as it is.
    for orientation in 0..=9 {
        let expected = upright(orientation);
        let exif = orientation_exif(orientation, orientation % 2 == 0);
        let check = |bytes: &[u8], what: &str| {
            let got = decode(bytes);
            assert_eq!(
                (got.width, got.height),
                expected.dimensions(),
                "{what} {orientation}"
            );
            let max = got
                .data
                .iter()
                .zip(expected.as_raw())
                .map(|(a, b)| a.abs_diff(*b))
                .max();
            let limit = if what == "JPEG" { 4 } else { 0 };
            assert!(max <= Some(limit), "{what} {orientation}: {max:?}");
        };
        check(&insert_app1(&jpeg, &exif), "JPEG");
        let mut parts = PngParts {
            width: 16,
            height: 32,
            bits: 8,
            color: 2,
            rows: rows.clone(),
            before: vec![(*b"eXIf", exif.clone())],
            after: vec![],
        };
        check(&png(&parts), "PNG");
        parts.after = std::mem::take(&mut parts.before);
        check(&png(&parts), "PNG, behind the pixels");
    }
}

/// A PNG file of `rgb` or grey `values` with a colour profile.
fn tagged(values: &[u8], color: ColorType, profile: Vec<u8>) -> Vec<u8> {
    let width = (values.len() / usize::from(color.bytes_per_pixel())) as u32;
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_icc_profile(profile).unwrap();
    encoder.write_image(values, width, 1, color.into()).unwrap();
    bytes
}

/// Display P3 to sRGB by the definitions of the two (Lindbloom's matrices; both have the sRGB curve).
fn p3_to_srgb(rgb: [u8; 3]) -> [u8; 3] {
    let linear = rgb.map(|v| {
        let v = f64::from(v) / 255.0;
        if v <= 0.04045 {
            v / 12.92
        } else {
            ((v + 0.055) / 1.055).powf(2.4)
        }
    });
    let matrix = [
        [1.224_940, -0.224_940, 0.0],
        [-0.042_057, 1.042_057, 0.0],
        [-0.019_638, -0.078_636, 1.098_274],
    ];
    matrix.map(|row| {
        let v: f64 = row.iter().zip(linear).map(|(a, b)| a * b).sum();
        let v = v.clamp(0.0, 1.0);
        let v = if v <= 0.003_130_8 {
            v * 12.92
        } else {
            1.055 * v.powf(1.0 / 2.4) - 0.055
        };
        (v * 255.0).round() as u8
    })
}

#[test]
fn colour_profiles_are_converted() {
    let colors: Vec<[u8; 3]> = (0..216)
        .map(|i| [i / 36, i / 6 % 6, i % 6].map(|v| v as u8 * 51))
        .collect();
    let flat = colors.as_flattened();

    let got = decode(&tagged(
        flat,
        ColorType::Rgb8,
        moxcms::ColorProfile::new_display_p3().encode().unwrap(),
    ));
    assert_eq!(got.icc, Icc::Converted);
    for (color, got) in colors.iter().zip(got.data.chunks(3)) {
        let expected = p3_to_srgb(*color);
        let near = expected.iter().zip(got).all(|(a, b)| a.abs_diff(*b) <= 2);
        assert!(near, "P3 {color:?}: {got:?}, expected {expected:?}");
    }

    let srgb = moxcms::ColorProfile::new_srgb().encode().unwrap();
    let got = decode(&tagged(flat, ColorType::Rgb8, srgb.clone()));
    assert_eq!((got.icc, got.data.as_slice()), (Icc::Srgb, flat));

    // Grey pictures with the profile of colours, and with one of their own.
    let gray: Vec<u8> = (0..=255).collect();
    let got = decode(&tagged(&gray, ColorType::L8, srgb));
    assert_eq!((got.icc, got.data), (Icc::Srgb, replicate(&gray)));
    let linear = moxcms::ColorProfile::new_gray_with_gamma(1.0)
        .encode()
        .unwrap();
    let got = decode(&tagged(&gray, ColorType::L8, linear.clone()));
    assert_eq!(got.icc, Icc::Converted);
    assert!(
        got.data[128 * 3].abs_diff(188) <= 1,
        "linear half is {}",
        got.data[128 * 3]
    );

    // What cannot be used is said, and the pixels stay as they are.
    for profile in [b"not a profile".to_vec(), linear] {
        let got = decode(&tagged(flat, ColorType::Rgb8, profile));
        assert!(matches!(got.icc, Icc::Ignored(_)), "{:?}", got.icc);
        assert_eq!(got.data, flat);
    }
}
