//! `vqlc compress`: which pictures, in what order, under what names, and what is said of the others.

mod common;
mod jobs;

use std::path::Path;

use common::{Folder, vqlc};
use jobs::{classes, compress, model, names, picture, put, text_names};
use vqlc_format::{Grid, TokenFile};

#[test]
fn folders_become_labels() {
    let folder = Folder::new();
    let (root, out) = (classes(&folder, "in", 7), folder.path("t.vqt"));
    put(&root.join("top.png"), 9);
    let run = compress(args!["--json", root, out]).code(0);
    assert!(run.err.contains("1 file passed over"), "{run:?}");
    let json = run.json();
    for (key, value) in [
        ("pictures", serde_json::json!(8)),
        ("records", 8.into()),
        ("skipped", serde_json::json!([])),
        ("skipped_count", 0.into()),
        ("passed_over", 1.into()),
        ("classes", 3.into()),
        ("codebook_size", 1000.into()),
        ("resumed", false.into()),
        ("bytes_out", out.metadata().unwrap().len().into()),
        (
            "content",
            TokenFile::read(&out).unwrap().content().to_string().into(),
        ),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
    let bytes_in: u64 = (0..7)
        .map(|i| {
            root.join(["birds", "fish", "trees"][i % 3])
                .join(format!("{i:03}.png"))
                .metadata()
                .unwrap()
                .len()
        })
        .sum();
    assert_eq!(
        json["bytes_in"],
        bytes_in + root.join("top.png").metadata().unwrap().len()
    );
    let bits = json["bits_per_pixel"].as_f64().unwrap();
    assert!((bits - out.metadata().unwrap().len() as f64 * 8.0 / (8.0 * 64.0 * 64.0)).abs() < 1e-9);

    let file = TokenFile::read(&out).unwrap();
    assert_eq!(file.grid(), Grid::Fixed { rows: 4, cols: 4 });
    assert_eq!(
        file.classes().unwrap(),
        [b"birds".to_vec(), b"fish".to_vec(), b"trees".to_vec()]
    );
    let labels: Vec<_> = (0..8).map(|i| file.label(i).unwrap()).collect();
    // top.png comes before trees/.
    let (birds, fish, trees) = (Some(0), Some(1), Some(2));
    assert_eq!(
        labels,
        [birds, birds, birds, fish, fish, None, trees, trees]
    );
    assert_eq!(
        file.size(1).unwrap(),
        Some((80, 87)),
        "birds/003.png at its own size"
    );
    assert_eq!(
        text_names(&out)[4..7],
        ["fish/004.png", "top.png", "trees/002.png"]
    );

    let plain = folder.path("plain.vqt");
    compress(args!["--no-labels", root, plain]).code(0);
    assert_eq!(TokenFile::read(&plain).unwrap().classes(), None);
}

#[test]
fn the_bytes_do_not_depend_on_threads_batches_or_place() {
    let folder = Folder::new();
    let root = classes(&folder, "in", 11);
    let (a, b, c) = (
        folder.path("a.vqt"),
        folder.path("b.vqt"),
        root.join("c.vqt"),
    );
    compress(args![root, a, "--threads", "1", "--batch", "1"]).code(0);
    compress(args![root, b, "--threads", "3", "--batch", "5"]).code(0);
    let json = compress(args!["--json", root, c]).code(0).json();
    assert_eq!(
        json["passed_over"], 1,
        "the output is not counted where it lies among the pictures"
    );
    let bytes = std::fs::read(a).unwrap();
    assert!(bytes == std::fs::read(b).unwrap());
    assert!(bytes == std::fs::read(c).unwrap());
}

#[test]
fn unreadable_pictures_are_listed_and_left_out() {
    let folder = Folder::new();
    let (root, out) = (classes(&folder, "in", 5), folder.path("t.vqt"));
    std::fs::write(
        root.join("birds/cut.png"),
        &std::fs::read(root.join("birds/000.png")).unwrap()[..100],
    )
    .unwrap();
    std::fs::write(root.join("fish/fake.jpg"), "not a picture").unwrap();
    std::fs::write(root.join("zero.gif"), "").unwrap();
    let run = compress(args!["--json", root, out]).code(3);
    for name in ["birds/cut.png", "fish/fake.jpg", "zero.gif"] {
        assert!(run.err.contains(&format!("skipped {name}: ")), "{run:?}");
    }
    let json = run.json();
    assert_eq!(json["pictures"], 5);
    assert_eq!(json["skipped_count"], 3);
    let listed: Vec<_> = json["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(listed, ["birds/cut.png", "fish/fake.jpg", "zero.gif"]);
    assert!(
        json["skipped"]
            .as_array()
            .unwrap()
            .iter()
            .all(|s| !s["reason"].as_str().unwrap().is_empty())
    );
    assert_eq!(names(&out).len(), 5);
    vqlc(args!["validate", out]).code(0);

    let strict = folder.path("s.vqt");
    let run = compress(args!["--strict", root, strict]).code(1);
    assert!(
        run.err.contains("skipped birds/cut.png: ") && run.err.contains("--strict"),
        "{run:?}"
    );
    assert!(!strict.exists());
}

#[test]
fn shards_join_to_the_bytes_of_one_run() {
    let folder = Folder::new();
    let (root, whole) = (classes(&folder, "in", 10), folder.path("whole.vqt"));
    compress(args![root, whole]).code(0);
    let mut merge = vec!["merge".into()];
    for i in 1..=3 {
        let out = folder.path(&format!("{i}.vqt"));
        compress(args!["--shard", format!("{i}/3"), root, out]).code(0);
        merge.push(std::ffi::OsString::from(out));
    }
    let joined = folder.path("joined.vqt");
    merge.push(joined.clone().into());
    vqlc(merge).code(0);
    assert!(std::fs::read(joined).unwrap() == std::fs::read(whole).unwrap());
    let run = compress(args!["--shard", "0/3", root, folder.path("x.vqt")]).code(1);
    assert!(run.err.contains("1 to N"), "{run:?}");
    // More shards than pictures: some are empty, and still files.
    let empty = folder.path("empty.vqt");
    compress(args!["--shard", "1/20", root, empty]).code(0);
    assert_eq!(names(&empty).len(), 0);
}

#[test]
fn whole_pictures_keep_their_size() {
    let folder = Folder::new();
    let (root, out, back) = (folder.path("in"), folder.path("t.vqt"), folder.path("back"));
    std::fs::create_dir(&root).unwrap();
    for (name, width, height) in [
        ("a.png", 50, 33),
        ("b.png", 16, 16),
        ("c.png", 1, 70),
        ("d.png", 200, 90),
    ] {
        picture(width, height, 3).save(root.join(name)).unwrap();
    }
    compress(args!["--fit", "whole", "--max-side", "100", root, out]).code(0);
    let file = TokenFile::read(&out).unwrap();
    assert_eq!(file.grid(), Grid::Varying);
    assert_eq!(
        (file.shape(0).unwrap(), file.size(0).unwrap()),
        ((3, 4), Some((50, 33)))
    );
    assert_eq!(
        (file.shape(3).unwrap(), file.size(3).unwrap()),
        ((3, 7), Some((200, 90)))
    );
    jobs::decompress(args![out, back]).code(0);
    for (name, size) in [
        ("a.png", (50, 33)),
        ("b.png", (16, 16)),
        ("c.png", (1, 70)),
        ("d.png", (100, 45)),
    ] {
        assert_eq!(
            image::image_dimensions(back.join(name)).unwrap(),
            size,
            "{name}"
        );
    }
    // Ids of a picture do not depend on which others go with it.
    let alone = folder.path("alone.vqt");
    compress(args!["--fit", "whole", root.join("a.png"), alone]).code(0);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    TokenFile::read(&alone).unwrap().get(0, &mut one).unwrap();
    file.get(0, &mut other).unwrap();
    assert_eq!(one, other);
}

#[test]
fn a_picture_that_needs_too_much_memory_is_skipped() {
    let folder = Folder::new();
    let (root, out) = (folder.path("in"), folder.path("t.vqt"));
    put(&root.join("small.png"), 1);
    picture(1500, 1500, 1).save(root.join("large.png")).unwrap();
    let run = compress(args!["--fit", "whole", "--max-memory", "50M", root, out]).code(3);
    assert!(
        run.err
            .contains("skipped large.png: 1500 x 1500 pixels need about"),
        "{run:?}"
    );
    assert_eq!(text_names(&out), ["small.png"]);
    let run = compress(args!["--force", "--max-pixels", "1000000", root, out]).code(3);
    assert!(
        run.err.contains("skipped large.png: ") && run.err.contains("1000000"),
        "{run:?}"
    );
}

#[test]
fn every_format_is_read() {
    let folder = Folder::new();
    let (root, out) = (folder.path("in"), folder.path("t.vqt"));
    let all = ["bmp", "gif", "jpg", "png", "ppm", "tiff", "webp"];
    for kind in all {
        put(&root.join(format!("x.{kind}")), 2);
    }
    compress(args![root, out]).code(0);
    assert_eq!(text_names(&out), all.map(|kind| format!("x.{kind}")));
}

#[test]
fn views_are_recorded() {
    let folder = Folder::new();
    let (root, out) = (folder.path("in"), folder.path("t.vqt"));
    std::fs::create_dir(&root).unwrap();
    // Of the size of the square: resizing to another is not symmetric to the last bit.
    let a = picture(64, 64, 5);
    a.save(root.join("a.png")).unwrap();
    image::imageops::flip_horizontal(&a)
        .save(root.join("b.png"))
        .unwrap();
    compress(args!["--views", "flip", root, out]).code(0);
    let file = TokenFile::read(&out).unwrap();
    assert_eq!(
        (file.len(), file.views()),
        (4, &["center".to_owned(), "center-flip".to_owned()][..])
    );
    let ids = |record| {
        let mut ids = Vec::new();
        file.get(record, &mut ids).unwrap();
        ids
    };
    assert_eq!(ids(1), ids(2), "the mirror image of a is b");
    assert_eq!(ids(0), ids(3));
    compress(args!["--force", "--views", "ten-crop", root, out]).code(0);
    assert_eq!(TokenFile::read(&out).unwrap().len(), 20);
    let run = compress(args![
        "--force", "--views", "ten-crop", "--fit", "whole", root, out
    ])
    .code(1);
    assert!(run.err.contains("ten crops"), "{run:?}");
}

#[test]
fn a_dry_run_lists_and_writes_nothing() {
    let folder = Folder::new();
    let (root, out) = (classes(&folder, "in", 4), folder.path("t.vqt"));
    let run = vqlc(args![
        "compress",
        "--dry-run",
        "--model",
        "/no/such/model",
        root,
        out
    ])
    .code(0);
    assert_eq!(
        run.out,
        "birds/000.png\nbirds/003.png\nfish/001.png\ntrees/002.png\n"
    );
    assert!(run.err.contains("4 pictures"), "{run:?}");
    assert!(!out.exists());
    let json = vqlc(args!["compress", "--dry-run", "--json", root, out])
        .code(0)
        .json();
    assert_eq!(
        (&json["pictures"], &json["passed_over"]),
        (&4.into(), &1.into())
    );
}

#[test]
fn a_dry_run_says_what_would_stop_the_real_one() {
    let folder = Folder::new();
    let (root, out) = (classes(&folder, "in", 3), folder.path("t.vqt"));
    for (wrong, why) in [
        (args!["--max-side", "9"], "--fit whole"),
        (args!["--size", "0"], "crop size"),
    ] {
        let mut all = args!["compress", "--dry-run", root, out].to_vec();
        all.extend(wrong);
        let run = vqlc(all).code(1);
        assert!(run.err.contains(why), "{run:?}");
    }
    std::fs::write(&out, "here").unwrap();
    let run = vqlc(args!["compress", "--dry-run", root, out]).code(0);
    assert!(run.err.contains("exists already"), "{run:?}");
}

/// The one line that an impossible job ends with.
fn refusal(args: impl IntoIterator<Item = std::ffi::OsString>) -> String {
    let run = compress(args).code(1);
    assert_eq!(run.out, "");
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("vqlc: "), "{lines:?}");
    lines[0].to_owned()
}

#[test]
fn impossible_jobs_end_with_one_clear_line() {
    let folder = Folder::new();
    let (root, out) = (classes(&folder, "in", 3), folder.path("t.vqt"));
    let empty = folder.path("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(refusal(args![empty, out]).contains("no pictures"));
    assert!(refusal(args![folder.path("gone"), out]).contains("gone"));
    assert!(
        refusal(args![root.join("birds/000.png"), root.join("fish/001.png")])
            .contains("did you leave out OUT.vqt")
    );
    assert!(refusal(args![root, root.join("birds")]).contains("is a folder"));
    assert!(refusal(args![root, folder.path("no/such/t.vqt")]).contains("there is no folder"));
    assert!(refusal(args![root]).contains("all that was named"));
    assert!(refusal(args!["--max-side", "9", root, out]).contains("--fit whole"));
    assert!(refusal(args!["--precision", "bf16", root, out]).contains("f32 only"));
    let (other, same) = (
        folder.path("other"),
        "two pictures would both be named '000.png'",
    );
    put(&other.join("000.png"), 1);
    assert!(refusal(args![root.join("birds"), other.join("000.png"), out]).contains(same));
    let odd = vqlc(args![
        "compress",
        "--model",
        model(),
        "--size",
        "50",
        root,
        out
    ])
    .code(1);
    assert!(
        odd.err.contains("not a multiple of the factor 16"),
        "{odd:?}"
    );
    assert_eq!(folder.listing(), ["empty", "in", "other"]);
    std::fs::write(&out, "here").unwrap();
    assert!(refusal(args![root, out]).contains("--force replaces it"));
    assert!(refusal(args!["--resume", root, out]).contains("nothing to resume"));
    assert_eq!(std::fs::read(&out).unwrap(), b"here");
    compress(args!["--force", root, out]).code(0);
    vqlc(args!["validate", out]).code(0);
}

#[test]
fn quiet_is_quiet() {
    let folder = Folder::new();
    let (root, out) = (classes(&folder, "in", 3), folder.path("t.vqt"));
    let run = compress(args!["-q", root, out]).code(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));
    assert_eq!(folder.listing(), ["in", "t.vqt"]);
    assert!(Path::new(&out).exists());
}
