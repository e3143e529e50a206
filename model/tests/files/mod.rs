//! Picture files put together by hand: kinds that no encoder at hand writes, and files that lie.

// Each test file uses its own part of these.
#![allow(dead_code)]

use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use vqlc_model::image::{ReadOptions, read_bytes};

/// A file of the repository's own reference set.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/reference")
        .join(name)
}

/// The picture of a file's bytes.
pub(crate) fn decode(bytes: &[u8]) -> vqlc_model::image::Rgb {
    read_bytes(bytes, &ReadOptions::default()).unwrap()
}

/// The bytes of a picture's file.
pub(crate) fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// Gradients with some texture.
pub(crate) fn scene(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([
            (x * 4 % 256) as u8,
            (y * 5 % 256) as u8,
            ((x / 4 + y / 3) * 9 % 256) as u8,
        ])
    })
}

/// Four flat quarters of different colours; sides that are multiples of 16 make JPEG blocks flat.
pub(crate) fn flat_quadrants(width: u32, height: u32) -> RgbImage {
    let colors = [[200, 30, 30], [30, 200, 30], [30, 30, 200], [220, 220, 90]];
    RgbImage::from_fn(width, height, |x, y| {
        Rgb(colors[usize::from(x >= width / 2) + 2 * usize::from(y >= height / 2)])
    })
}

/// The parts of a PNG file; `rows` are packed rows without filter bytes.
pub(crate) struct PngParts {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) bits: u8,
    pub(crate) color: u8,
    pub(crate) rows: Vec<u8>,
    pub(crate) before: Vec<([u8; 4], Vec<u8>)>,
    pub(crate) after: Vec<([u8; 4], Vec<u8>)>,
}

pub(crate) fn png(parts: &PngParts) -> Vec<u8> {
    let mut header = parts.width.to_be_bytes().to_vec();
    header.extend(parts.height.to_be_bytes());
    header.extend([parts.bits, parts.color, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut out, *b"IHDR", &header);
    for (name, data) in &parts.before {
        chunk(&mut out, *name, data);
    }
    let channels = [1, 0, 3, 1, 2, 0, 4][usize::from(parts.color)];
    let stride = (parts.width as usize * channels * usize::from(parts.bits)).div_ceil(8);
    let filtered: Vec<u8> = parts
        .rows
        .chunks(stride)
        .flat_map(|row| std::iter::once(0).chain(row.iter().copied()))
        .collect();
    chunk(&mut out, *b"IDAT", &zlib(&filtered));
    for (name, data) in &parts.after {
        chunk(&mut out, *name, data);
    }
    chunk(&mut out, *b"IEND", &[]);
    out
}

fn chunk(out: &mut Vec<u8>, name: [u8; 4], data: &[u8]) {
    out.extend((data.len() as u32).to_be_bytes());
    let start = out.len();
    out.extend(name);
    out.extend(data);
    let mut crc = !0_u32;
    for &byte in &out[start..] {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
        }
    }
    out.extend((!crc).to_be_bytes());
}

/// One stored block.
fn zlib(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    let mut out = vec![0x78, 0x01, 1];
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(data);
    let (mut a, mut b) = (1_u32, 0_u32);
    for &byte in data {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    out.extend((b << 16 | a).to_be_bytes());
    out
}

/// EXIF data (without the `Exif` prefix) that hold an orientation.
pub(crate) fn orientation_exif(orientation: u8, big_endian: bool) -> Vec<u8> {
    if big_endian {
        let mut out = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
        out.extend([0, orientation, 0, 0, 0, 0, 0, 0]);
        out
    } else {
        let mut out = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        out.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        out
    }
}

/// A JPEG file with EXIF data put behind its start marker.
pub(crate) fn insert_app1(jpeg: &[u8], exif: &[u8]) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    out.extend([0xFF, 0xE1]);
    out.extend((exif.len() as u16 + 8).to_be_bytes());
    out.extend(b"Exif\0\0");
    out.extend(exif);
    out.extend(&jpeg[2..]);
    out
}

/// An uncompressed TIFF file of one strip.
#[allow(clippy::too_many_arguments)] // the tags are what it is about
pub(crate) fn tiff(
    big_endian: bool,
    width: u32,
    height: u32,
    photometric: u16,
    bits: &[u16],
    data: &[u8],
    palette: Option<&[u16]>,
    extra: Option<u16>,
) -> Vec<u8> {
    let short = |v: u16| {
        if big_endian {
            v.to_be_bytes()
        } else {
            v.to_le_bytes()
        }
    };
    let long = |v: u32| {
        if big_endian {
            v.to_be_bytes()
        } else {
            v.to_le_bytes()
        }
    };
    let shorts = |values: &[u16]| values.iter().flat_map(|&v| short(v)).collect::<Vec<u8>>();
    let sample_format = if bits[0] == 32 { 3 } else { 1 };
    // Tag, type (3 = short, 4 = long), number of values, bytes.
    let mut tags = vec![
        (256, 4, 1, long(width).to_vec()),
        (257, 4, 1, long(height).to_vec()),
        (258, 3, bits.len(), shorts(bits)),
        (259, 3, 1, shorts(&[1])),
        (262, 3, 1, shorts(&[photometric])),
        (273, 4, 1, long(8).to_vec()),
        (277, 3, 1, shorts(&[bits.len() as u16])),
        (278, 4, 1, long(height).to_vec()),
        (279, 4, 1, long(data.len() as u32).to_vec()),
    ];
    if let Some(palette) = palette {
        tags.push((320, 3, palette.len(), shorts(palette)));
    }
    if let Some(extra) = extra {
        tags.push((338, 3, 1, shorts(&[extra])));
    }
    tags.push((339, 3, bits.len(), shorts(&vec![sample_format; bits.len()])));
    let directory = (8 + data.len()).next_multiple_of(2);
    let mut out = if big_endian {
        b"MM\0*".to_vec()
    } else {
        b"II*\0".to_vec()
    };
    out.extend(long(directory as u32));
    out.extend(data);
    out.resize(directory, 0);
    out.extend(short(tags.len() as u16));
    let mut values_at = directory + 2 + tags.len() * 12 + 4;
    let mut values = Vec::new();
    for (tag, kind, count, bytes) in tags {
        out.extend(short(tag));
        out.extend(short(kind));
        out.extend(long(count as u32));
        if bytes.len() <= 4 {
            let mut inline = bytes;
            inline.resize(4, 0);
            out.extend(inline);
        } else {
            out.extend(long(values_at as u32));
            values_at += bytes.len();
            values.extend(bytes);
        }
    }
    out.extend(long(0));
    out.extend(values);
    out
}

/// An animation whose frames are the pictures of still WebP files of the given size.
pub(crate) fn animated_webp(width: u32, height: u32, stills: &[Vec<u8>]) -> Vec<u8> {
    let u24 = |v: u32| v.to_le_bytes()[..3].to_vec();
    let riff = |out: &mut Vec<u8>, name: &[u8; 4], data: &[u8]| {
        out.extend(name);
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data);
        out.resize(out.len().next_multiple_of(2), 0);
    };
    let mut body = b"WEBP".to_vec();
    let size = [u24(width - 1), u24(height - 1)].concat();
    riff(
        &mut body,
        b"VP8X",
        &[&[0x02, 0, 0, 0], size.as_slice()].concat(),
    );
    riff(&mut body, b"ANIM", &[0xFF, 0xFF, 0xFF, 0xFF, 0, 0]);
    for still in stills {
        let frame = [&[0; 6], size.as_slice(), &u24(100), &[0], &still[12..]].concat();
        riff(&mut body, b"ANMF", &frame);
    }
    let mut out = Vec::new();
    riff(&mut out, b"RIFF", &body);
    out
}
