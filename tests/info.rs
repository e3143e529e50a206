//! `vqlc info`: what it says of a file, for people and for programs.

mod common;

use common::{Folder, digests, flip, spec, tiny_model, token_file, vqlc};
use vqlc_format::{Grid, Spec, TokenFile};
use vqlc_model::image::{Fit, Preprocessing, Views};

#[test]
fn json_holds_everything() {
    let folder = Folder::new();
    let path = folder.path("t.vqt");
    let model = tiny_model(1);
    let digests = digests(&model);
    token_file(
        &path,
        &Spec {
            digests,
            views: vec!["center".into(), "center-flip".into()],
            ..spec()
        },
        9,
    );
    let json = vqlc(args!["info", "--json", path]).code(0).json();
    let bytes = path.metadata().unwrap().len();
    for (key, value) in [
        ("version", serde_json::json!("1.0")),
        ("bytes", bytes.into()),
        (
            "content",
            TokenFile::read(&path).unwrap().content().to_string().into(),
        ),
        ("codebook_size", 1000.into()),
        ("bits_per_id", 10.into()),
        ("grid", serde_json::json!([4, 4])),
        ("pictures", 9.into()),
        ("records", 18.into()),
        ("views", serde_json::json!(["center", "center-flip"])),
        ("records_per_block", 8.into()),
        ("blocks", 3.into()),
        // 16 ids of 10 bits are 20 bytes.
        ("id_bytes", (18 * 20).into()),
        ("names", true.into()),
        ("sizes", true.into()),
        ("classes", serde_json::json!(["birds", "fish"])),
        ("embedded_model_matches", false.into()),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
    assert_eq!(json["digests"]["codebook"], digests.codebook.to_string());
    assert_eq!(json["digests"]["source"], digests.source.to_string());
    assert!(json["preprocessing"]["factor"] == 16, "{json}");
    let bits = json["bits_per_pixel"].as_f64().unwrap();
    assert!(
        (bits - 8.0 * bytes as f64 / (18.0 * 64.0 * 64.0)).abs() < 1e-12,
        "{bits}"
    );
    assert!(
        json["sections"]
            .as_array()
            .unwrap()
            .iter()
            .any(|section| section["kind"] == "names")
    );
}

#[test]
fn people_get_a_table() {
    let folder = Folder::new();
    let path = folder.path("t.vqt");
    token_file(&path, &spec(), 9);
    let run = vqlc(args!["info", path]).code(0);
    for line in [
        "pictures       9, 1 view a picture: center",
        "records        9, 4 x 4 ids each, in 2 blocks",
        "ids            below 1,000, 10 bits each, 180 bytes in all",
        "classes        2: birds, fish",
        "model          not the one embedded in this program",
    ] {
        assert!(
            run.out.lines().any(|found| found == line),
            "{line:?} in {}",
            run.out
        );
    }
    assert!(
        !run.out.contains("section")
            && vqlc(args!["info", "-v", path])
                .out
                .contains("section        blocks at byte ")
    );
}

#[test]
fn varying_grids_and_absent_sections() {
    let folder = Folder::new();
    let path = folder.path("t.vqt");
    let whole = Preprocessing::new(Fit::Whole { max_side: None }, Views::Center, 16, [255; 3])
        .unwrap()
        .to_bytes();
    let varying = Spec {
        grid: Grid::Varying,
        preprocessing: whole,
        classes: None,
        names: false,
        ..spec()
    };
    token_file(&path, &varying, 6);
    let json = vqlc(args!["info", "--json", path]).code(0).json();
    assert_eq!(
        (&json["grid"], &json["classes"], &json["names"]),
        (
            &serde_json::Value::Null,
            &serde_json::Value::Null,
            &false.into()
        )
    );
    // Rows 1, 2, 3, 1, 2, 3 of 2 ids of 10 bits, each record rounded up to whole bytes.
    assert_eq!(json["id_bytes"], 2 * (3 + 5 + 8));
    // Every picture is 100 x 70 by its recorded size.
    let bits = json["bits_per_pixel"].as_f64().unwrap();
    assert!(
        (bits - 8.0 * path.metadata().unwrap().len() as f64 / (6.0 * 100.0 * 70.0)).abs() < 1e-12,
        "{bits}"
    );

    token_file(
        &path,
        &Spec {
            sizes: false,
            ..varying
        },
        6,
    );
    assert_eq!(
        vqlc(args!["info", "--json", path]).code(0).json()["bits_per_pixel"],
        serde_json::Value::Null
    );
    // No pictures at all, and a preprocessing record that means nothing here.
    token_file(
        &path,
        &Spec {
            preprocessing: b"other".to_vec(),
            ..spec()
        },
        0,
    );
    let json = vqlc(args!["info", "--json", path]).code(0).json();
    assert_eq!(
        (
            &json["pictures"],
            &json["bits_per_pixel"],
            &json["preprocessing"]
        ),
        (
            &0.into(),
            &serde_json::Value::Null,
            &serde_json::Value::Null
        )
    );
    vqlc(args!["info", path]).code(0);
}

#[test]
fn names_cannot_steer_the_terminal() {
    let folder = Folder::new();
    let path = folder.path("t.vqt");
    token_file(
        &path,
        &Spec {
            classes: Some(vec![b"\x1b[2J".to_vec(), b"b\xff".to_vec()]),
            ..spec()
        },
        3,
    );
    let run = vqlc(args!["info", path]).code(0);
    assert!(
        !run.out.contains('\x1b') && run.out.contains("b\\xff"),
        "{run:?}"
    );
}

#[test]
fn errors_have_their_codes() {
    let folder = Folder::new();
    let path = folder.path("t.vqt");
    token_file(&path, &spec(), 9);
    flip(&path, 20);
    let run = vqlc(args!["info", path]).code(4);
    assert!(
        run.out.is_empty() && run.err.starts_with("vqlc: ") && run.err.contains("t.vqt"),
        "{run:?}"
    );
    vqlc(args!["info", folder.path("missing.vqt")]).code(1);
}
