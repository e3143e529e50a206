//! Fits, views, extreme shapes and the preprocessing record.

use proptest::prelude::*;
use vqlc_model::Precision;
use vqlc_model::image::{
    Fit, ImageError, Preprocessing, RECORD_LIMIT, ReadOptions, Rgb, Views, to_rgb8,
};

/// Every pixel tells its position.
fn picture(width: u32, height: u32) -> Rgb {
    let data = (0..height)
        .flat_map(|y| {
            (0..width).map(move |x| {
                [
                    (x * 3 % 256) as u8,
                    (y * 5 % 256) as u8,
                    (x * y % 251) as u8,
                ]
            })
        })
        .flatten()
        .collect();
    Rgb {
        width,
        height,
        data,
        icc: Default::default(),
    }
}

fn record(fit: Fit, views: Views, factor: u32) -> Preprocessing {
    Preprocessing::new(fit, views, factor, ReadOptions::default().background).unwrap()
}

fn bytes_of(view: &[f32], height: usize, width: usize) -> Vec<u8> {
    to_rgb8(view, height, width, height, width).unwrap().data
}

#[test]
fn pixels_survive_the_way_to_the_network_and_back() {
    let rgb = picture(32, 16);
    let prepared = record(Fit::Whole { max_side: None }, Views::Center, 16)
        .prepare(&rgb)
        .unwrap();
    assert_eq!((prepared.width, prepared.height), (32, 16));
    let view = &prepared.views[0];
    assert_eq!(view[1], f32::from(rgb.data[3]) / 127.5 - 1.0);
    assert_eq!(view[32 * 16], f32::from(rgb.data[1]) / 127.5 - 1.0);
    assert_eq!(bytes_of(view, 16, 32), rgb.data);
}

#[test]
fn whole_pictures_are_padded_by_their_edges_and_cropped_back() {
    let rgb = picture(33, 17);
    let record = record(Fit::Whole { max_side: None }, Views::Flip, 16);
    let prepared = record.prepare(&rgb).unwrap();
    assert_eq!((prepared.width, prepared.height), (48, 32));
    assert_eq!((prepared.true_width, prepared.true_height), (33, 17));
    assert_eq!(record.content_size(33, 17), (33, 17));
    assert_eq!(record.network_size(33, 17), (48, 32));
    let cropped = to_rgb8(&prepared.views[0], 32, 48, 17, 33).unwrap();
    assert_eq!((cropped.width, cropped.height), (33, 17));
    assert_eq!(cropped.data, rgb.data);
    let padded = bytes_of(&prepared.views[0], 32, 48);
    for y in 0..32 {
        for x in 0..48 {
            let (from_x, from_y) = (x.min(32), y.min(16));
            assert_eq!(
                padded[(y * 48 + x) * 3..][..3],
                rgb.data[(from_y * 33 + from_x) * 3..][..3],
                "{x}, {y}"
            );
        }
    }
    // The mirror image is padded on the right as well.
    let flipped = to_rgb8(&prepared.views[1], 32, 48, 17, 33).unwrap().data;
    let mirrored: Vec<u8> = rgb
        .data
        .chunks(33 * 3)
        .flat_map(|row| row.rchunks(3))
        .flatten()
        .copied()
        .collect();
    assert_eq!(flipped, mirrored);
}

#[test]
fn whole_pictures_shrink_to_the_largest_side() {
    let record = record(
        Fit::Whole {
            max_side: Some(100),
        },
        Views::Center,
        16,
    );
    let prepared = record.prepare(&picture(400, 300)).unwrap();
    assert_eq!((prepared.true_width, prepared.true_height), (100, 75));
    assert_eq!((prepared.width, prepared.height), (112, 80));
    assert_eq!(record.content_size(400, 300), (100, 75));
}

#[test]
fn ten_crops_lie_where_they_say() {
    // round(21 * 256 / 224) = 24 is the short side already: nothing is resized.
    let rgb = picture(40, 24);
    let record = record(Fit::Crop { size: 21 }, Views::TenCrop, 7);
    let prepared = record.prepare(&rgb).unwrap();
    let names = Views::TenCrop.names();
    assert_eq!(prepared.views.len(), names.len());
    let window = |left: usize, top: usize, flip: bool| -> Vec<u8> {
        (top..top + 21)
            .flat_map(|y| (0..21).map(move |x| (if flip { left + 20 - x } else { left + x }, y)))
            .flat_map(|(x, y)| rgb.data[(y * 40 + x) * 3..][..3].to_vec())
            .collect()
    };
    // Margins 19 and 3: the centre is at round(9.5) = 10 and round(1.5) = 2, half to even.
    for (name, view) in names.iter().zip(&prepared.views) {
        let (left, top) = match name.trim_end_matches("-flip") {
            "center" => (10, 2),
            "top-left" => (0, 0),
            "top-right" => (19, 0),
            "bottom-left" => (0, 3),
            "bottom-right" => (19, 3),
            other => panic!("{other}"),
        };
        let expected = window(left, top, name.ends_with("-flip"));
        assert!(bytes_of(view, 21, 21) == expected, "{name}");
    }
}

#[test]
fn extreme_shapes() {
    for (width, height) in [(1, 1), (1, 10_000), (10_000, 1), (2, 70_000), (3, 2)] {
        let rgb = picture(width, height);
        for views in [Views::Center, Views::Flip, Views::TenCrop] {
            let prepared = record(Fit::Crop { size: 64 }, views, 16)
                .prepare(&rgb)
                .unwrap();
            assert_eq!(prepared.views.len(), views.count());
            for view in &prepared.views {
                assert_eq!(view.len(), 3 * 64 * 64);
                assert!(view.iter().all(|v| (-1.0..=1.0).contains(v)));
            }
        }
        let whole = record(Fit::Whole { max_side: None }, Views::Center, 16);
        let prepared = whole.prepare(&rgb).unwrap();
        assert_eq!(
            (prepared.width as u64, prepared.height as u64),
            whole.network_size(width, height)
        );
        let shrunk = record(Fit::Whole { max_side: Some(48) }, Views::Flip, 16);
        let prepared = shrunk.prepare(&rgb).unwrap();
        assert!(prepared.true_width.max(prepared.true_height) <= 48);
        assert!(prepared.true_width.min(prepared.true_height) >= 1);
    }
}

#[test]
fn a_flat_picture_stays_flat() {
    // Weights that do not add up to one, or edges taken for black, would show here.
    for (width, height) in [(7, 300), (300, 7), (500, 375), (40, 30)] {
        let mut rgb = picture(width, height);
        rgb.data.fill(201);
        for fit in [Fit::Crop { size: 64 }, Fit::Whole { max_side: Some(33) }] {
            let prepared = record(fit, Views::Center, 1).prepare(&rgb).unwrap();
            let bytes = bytes_of(&prepared.views[0], prepared.height, prepared.width);
            assert!(
                bytes.iter().all(|&v| v == 201),
                "{width} x {height}, {fit:?}"
            );
        }
    }
}

#[test]
fn windows_agree_with_cropping_the_whole_resize() {
    // Only the window is computed; it must be what cutting it out of the whole resized picture gives. Doubling makes
    // every source position exact, so that not one level may differ.
    let rgb = picture(90, 40);
    let prepared = record(Fit::Crop { size: 80 }, Views::Center, 1)
        .prepare(&rgb)
        .unwrap();
    let got = bytes_of(&prepared.views[0], 80, 80);
    // The same picture, cut by hand around the part that the window (columns 50..130 of 180) can see.
    let part: Vec<u8> = rgb
        .data
        .chunks(90 * 3)
        .flat_map(|row| &row[20 * 3..70 * 3])
        .copied()
        .collect();
    let part = Rgb {
        width: 50,
        height: 40,
        data: part,
        icc: Default::default(),
    };
    let prepared = record(Fit::Crop { size: 80 }, Views::Center, 1)
        .prepare(&part)
        .unwrap();
    assert_eq!(got, bytes_of(&prepared.views[0], 80, 80));
}

#[test]
fn contradictory_pictures_are_errors() {
    let record = record(Fit::Crop { size: 16 }, Views::Center, 16);
    let mut short = picture(4, 4);
    short.data.pop();
    assert!(matches!(
        record.prepare(&short),
        Err(ImageError::Length {
            expected: 48,
            got: 47,
            ..
        })
    ));
    let empty = Rgb {
        width: 0,
        height: 3,
        data: vec![],
        icc: Default::default(),
    };
    assert!(matches!(
        record.prepare(&empty),
        Err(ImageError::Empty { .. })
    ));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let whole = Fit::Whole { max_side: None };
    for (fit, views, factor) in [
        (Fit::Crop { size: 0 }, Views::Center, 16),
        (Fit::Crop { size: 250 }, Views::Center, 16),
        (Fit::Crop { size: 1 << 17 }, Views::Center, 16),
        (Fit::Whole { max_side: Some(0) }, Views::Center, 16),
        (whole, Views::TenCrop, 16),
        (whole, Views::Center, 0),
        (whole, Views::Center, u32::MAX),
    ] {
        let got = Preprocessing::new(fit, views, factor, [0; 3]);
        assert!(
            matches!(got, Err(ImageError::Settings(_))),
            "{fit:?} {views:?} {factor}"
        );
    }
}

#[test]
fn the_record_is_these_bytes() {
    // Stored in files: a change here is a new version.
    let crop = Preprocessing::new(Fit::Crop { size: 256 }, Views::Center, 16, [255; 3]).unwrap();
    assert_eq!(
        String::from_utf8(crop.to_bytes()).unwrap(),
        concat!(
            r#"{"version":1,"fit":{"crop":{"size":256}},"views":"center","factor":16,"#,
            r#""resize":"bicubic a=-0.5, antialiased, 8 bit a pass","background":[255,255,255],"#,
            r#""color":"8-bit sRGB, ICC profiles converted, alpha composited over the background","#,
            r#""precision":"f32"}"#
        )
    );
    let whole = Fit::Whole {
        max_side: Some(512),
    };
    let whole = Preprocessing::new(whole, Views::Flip, 8, [0, 1, 2]).unwrap();
    let bf16 = crop.clone().with_precision(Precision::Bf16);
    assert!(bf16.to_bytes().ends_with(br#""precision":"bf16"}"#));
    for record in [crop, whole, bf16] {
        assert_eq!(
            Preprocessing::from_bytes(&record.to_bytes()).unwrap(),
            record
        );
    }
}

#[test]
fn damaged_records_are_refused() {
    let good = record(Fit::Crop { size: 256 }, Views::Center, 16).to_bytes();
    let text = String::from_utf8(good.clone()).unwrap();
    let newer = text.replacen("\"version\":1", "\"version\":2,\"more\":[1]", 1);
    assert!(matches!(
        Preprocessing::from_bytes(newer.as_bytes()),
        Err(ImageError::RecordVersion {
            expected: 1,
            got: 2
        })
    ));
    for bad in [
        text.replacen("256", "255", 1),
        text.replacen("bicubic", "lanczos", 1),
        text.replacen("\"factor\"", "\"more\":1,\"factor\"", 1),
        text.replacen("\"views\":\"center\",", "", 1),
        format!("{text}{text}"),
        format!("{text}{}", " ".repeat(RECORD_LIMIT)),
        "[".repeat(4000),
        String::new(),
    ] {
        let got = Preprocessing::from_bytes(bad.as_bytes());
        assert!(
            matches!(got, Err(ImageError::Record(_))),
            "{bad:.60}: {got:?}"
        );
    }
    for cut in 0..good.len() {
        assert!(
            Preprocessing::from_bytes(&good[..cut]).is_err(),
            "cut at {cut}"
        );
    }
}

#[test]
fn values_become_levels() {
    let levels = |values: &[f32]| {
        let pixels = values.len() / 3;
        to_rgb8(values, 1, pixels, 1, pixels).map(|rgb| rgb.data)
    };
    assert_eq!(levels(&[-1.0, 0.0, 1.0]).unwrap(), [0, 128, 255]); // 127.5 rounds up
    assert_eq!(
        levels(&[-7.0, f32::INFINITY, f32::NEG_INFINITY]).unwrap(),
        [0, 255, 0]
    );
    assert!(matches!(
        levels(&[0.0, 0.0, f32::NAN]),
        Err(ImageError::NotANumber { index: 2 })
    ));
    assert!(matches!(
        to_rgb8(&[0.0; 11], 2, 2, 2, 2),
        Err(ImageError::Length {
            expected: 12,
            got: 11,
            ..
        })
    ));
    assert!(to_rgb8(&[0.0; 12], 2, 2, 3, 2).is_err());
    assert!(to_rgb8(&[0.0; 12], 2, 2, 0, 2).is_err());
    assert!(to_rgb8(&[], usize::MAX, 2, 1, 1).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_is_prepared_as_announced(
        width in 1_u32..200, height in 1_u32..200, max_side in 1_u32..150, factor in 1_u32..20, flip: bool,
    ) {
        let views = if flip { Views::Flip } else { Views::Center };
        let record = record(Fit::Whole { max_side: Some(max_side) }, views, factor);
        let prepared = record.prepare(&picture(width, height)).unwrap();
        let content = record.content_size(width, height);
        prop_assert_eq!((prepared.true_width as u32, prepared.true_height as u32), content);
        prop_assert!(content.0.max(content.1) <= max_side);
        prop_assert!(content.0 <= width && content.1 <= height);
        prop_assert_eq!((prepared.width as u64, prepared.height as u64), record.network_size(width, height));
        prop_assert_eq!(prepared.width % factor as usize, 0);
        prop_assert!(prepared.width - prepared.true_width < factor as usize);
        for view in &prepared.views {
            prop_assert_eq!(view.len(), 3 * prepared.width * prepared.height);
        }
    }

    #[test]
    fn any_crop_is_prepared(width in 1_u32..300, height in 1_u32..300, size in 1_u32..100, ten: bool) {
        let views = if ten { Views::TenCrop } else { Views::Center };
        let prepared = record(Fit::Crop { size }, views, 1).prepare(&picture(width, height)).unwrap();
        prop_assert_eq!(prepared.views.len(), views.count());
        prop_assert!(prepared.views.iter().all(|view| view.len() == 3 * (size * size) as usize));
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Preprocessing::from_bytes(&bytes).is_err());
    }
}
