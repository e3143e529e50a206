//! ICC colour profiles: conversion to sRGB.

use std::sync::Arc;

use moxcms::{
    ColorProfile, DataColorSpace, Layout, RenderingIntent, Transform8BitExecutor, TransformOptions,
};

use super::Icc;

/// Pixels converted in one piece, to keep the copy small.
const PIECE: usize = 4096;

/// Converts 8-bit RGB pixels in place.
pub(super) fn convert_rgb(profile: &[u8], rgb: &mut [u8]) -> Icc {
    let transform = match to_srgb(profile, DataColorSpace::Rgb, Layout::Rgb) {
        Ok(transform) => transform,
        Err(reason) => return Icc::Ignored(reason),
    };
    let probe = probe_colors();
    let mut converted = vec![0; probe.len()];
    if let Err(error) = transform.transform(&probe, &mut converted) {
        return Icc::Ignored(error.to_string());
    }
    if same(&probe, &converted) {
        return Icc::Srgb;
    }
    let mut copy = Vec::with_capacity(PIECE * 3);
    for piece in rgb.chunks_mut(PIECE * 3) {
        copy.clear();
        copy.extend_from_slice(piece);
        if let Err(error) = transform.transform(&copy, piece) {
            // The pieces are alike: what fails fails at the first one, before anything has changed.
            return Icc::Ignored(error.to_string());
        }
    }
    Icc::Converted
}

/// What each of the 256 grey values becomes in RGB; `Err` says why the profile cannot be used.
pub(super) fn gray_table(profile: &[u8]) -> Result<(Vec<u8>, Icc), String> {
    let transform = to_srgb(profile, DataColorSpace::Gray, Layout::Gray)?;
    let values: Vec<u8> = (0..=255).collect();
    let mut table = vec![0; 256 * 3];
    transform
        .transform(&values, &mut table)
        .map_err(|error| error.to_string())?;
    let plain: Vec<u8> = values.iter().flat_map(|&v| [v; 3]).collect();
    if same(&plain, &table) {
        Ok((plain, Icc::Srgb))
    } else {
        Ok((table, Icc::Converted))
    }
}

/// Converts 8-bit CMYK pixels (0 = no ink) to RGB; `Err` says why the profile cannot be used.
pub(super) fn convert_cmyk(profile: &[u8], cmyk: &[u8]) -> Result<Vec<u8>, String> {
    let transform = to_srgb(profile, DataColorSpace::Cmyk, Layout::Rgba)?;
    let mut rgb = vec![0; cmyk.len() / 4 * 3];
    for (from, to) in cmyk.chunks(PIECE * 4).zip(rgb.chunks_mut(PIECE * 3)) {
        transform
            .transform(from, to)
            .map_err(|error| error.to_string())?;
    }
    Ok(rgb)
}

/// Which colours a profile describes, if it can be read at all.
pub(super) fn is_gray(profile: &[u8]) -> bool {
    ColorProfile::new_from_slice(profile)
        .is_ok_and(|profile| profile.color_space == DataColorSpace::Gray)
}

fn to_srgb(
    profile: &[u8],
    space: DataColorSpace,
    layout: Layout,
) -> Result<Arc<Transform8BitExecutor>, String> {
    let profile = ColorProfile::new_from_slice(profile).map_err(|error| error.to_string())?;
    if profile.color_space != space {
        return Err(format!(
            "it describes {:?} colours, the picture has {space:?}",
            profile.color_space
        ));
    }
    let target = ColorProfile::new_srgb();
    let attempt = |rendering_intent| {
        let options = TransformOptions {
            rendering_intent,
            ..TransformOptions::default()
        };
        profile.create_transform_8bit(layout, &target, Layout::Rgb, options)
    };
    // Profiles made of tables need not have one for every intent.
    attempt(RenderingIntent::Perceptual)
        .or_else(|_| attempt(RenderingIntent::RelativeColorimetric))
        .map_err(|error| error.to_string())
}

/// A grid of 9 x 9 x 9 colours and all greys.
fn probe_colors() -> Vec<u8> {
    let step = |i: usize| (i * 255 / 8) as u8;
    let grid = (0..729).flat_map(|i| [step(i / 81), step(i / 9 % 9), step(i % 9)]);
    grid.chain((0..=255).flat_map(|v| [v; 3])).collect()
}

/// Whether two rows of colours differ by at most one level: there are many spellings of the sRGB profile.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= 1)
}
