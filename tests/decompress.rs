//! `vqlc decompress`: what comes back, where it may go, and what is refused.

mod common;
mod jobs;

use std::path::Path;

use common::{Folder, digests, flip, spec, tiny_model, token_file, vqlc};
use jobs::{classes, compress, decompress, model_file, put, tree};
use vqlc_format::{Digest, Digests, Picture, Spec, Writer};
use vqlc_model::image::{Fit, Preprocessing, Views};

/// A token file of the tiny model with these names and one made-up picture each.
fn named(path: &Path, names: &[&[u8]], digests: Digests) {
    let spec = Spec {
        digests,
        names: !names.is_empty(),
        classes: None,
        ..spec()
    };
    let mut writer = Writer::create(path, &spec, Digest::default(), true).unwrap();
    let names: Vec<&[u8]> = if names.is_empty() {
        vec![b""; 3]
    } else {
        names.to_vec()
    };
    for (position, name) in names.iter().enumerate() {
        let ids = [position as u32; 16];
        let picture = Picture {
            name,
            label: None,
            width: 100,
            height: 70,
            rows: 4,
            cols: 4,
            ids: &ids,
        };
        writer.push(position as u64, &picture).unwrap();
    }
    writer.finish(names.len() as u64).unwrap();
}

fn tiny() -> Digests {
    digests(&tiny_model(1))
}

#[test]
fn pictures_come_back_under_their_paths() {
    let folder = Folder::new();
    let (root, file, back) = (
        classes(&folder, "in", 5),
        folder.path("t.vqt"),
        folder.path("back"),
    );
    put(&root.join("deep/er/a.jpg"), 1);
    put(&root.join("deep/er/a.png"), 2);
    compress(args![root, file]).code(0);
    let json = decompress(args!["--json", file, back]).code(0).json();
    let expected = [
        "birds/000.png",
        "birds/003.png",
        "deep/er/a.jpg.png",
        "deep/er/a.png",
        "fish/001.png",
        "fish/004.png",
        "trees/002.png",
    ];
    assert_eq!(tree(&back), expected);
    for (key, value) in [
        ("files", 7.into()),
        ("pictures", 7.into()),
        ("skipped", serde_json::json!([])),
        ("other_decoder", false.into()),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
    let bytes: u64 = expected
        .iter()
        .map(|name| back.join(name).metadata().unwrap().len())
        .sum();
    assert_eq!(json["bytes_out"], bytes);
    assert_eq!(
        image::image_dimensions(back.join("birds/000.png")).unwrap(),
        (64, 64)
    );

    // The same pictures whatever the threads, the batch and what else comes back.
    let other = folder.path("other");
    decompress(args![
        "--threads",
        "1",
        "--batch",
        "1",
        "--select",
        "deep",
        file,
        other
    ])
    .code(0);
    assert_eq!(tree(&other), ["deep/er/a.jpg.png", "deep/er/a.png"]);
    for name in tree(&other) {
        assert!(
            std::fs::read(other.join(&name)).unwrap() == std::fs::read(back.join(&name)).unwrap(),
            "{name}"
        );
    }
    // New files are as readable as any.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let plain = folder.path("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&back.join("birds/000.png")), mode(&plain));
    }
}

#[test]
fn formats() {
    let folder = Folder::new();
    let (root, file) = (classes(&folder, "in", 3), folder.path("t.vqt"));
    compress(args![root, file]).code(0);
    for (format, extension) in [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")] {
        let back = folder.path(format);
        decompress(args!["--format", format, file, back]).code(0);
        assert_eq!(
            tree(&back),
            ["birds/000", "fish/001", "trees/002"].map(|stem| format!("{stem}.{extension}"))
        );
        assert_eq!(
            image::open(back.join(format!("fish/001.{extension}")))
                .unwrap()
                .width(),
            64
        );
    }
    let small = folder.path("small");
    decompress(args!["--format", "jpeg", "--quality", "5", file, small]).code(0);
    let len = |name: &str| {
        folder
            .path(name)
            .join("fish/001.jpg")
            .metadata()
            .unwrap()
            .len()
    };
    assert!(len("small") < len("jpeg"));
    let run = decompress(args!["--quality", "5", file, folder.path("x")]).code(1);
    assert!(run.err.contains("--format jpeg"), "{run:?}");
}

#[test]
fn selections() {
    let folder = Folder::new();
    let file = folder.path("t.vqt");
    named(
        &file,
        &[b"a/1.jpg", b"a/2.jpg", b"b/1.jpg", b"b/[x].jpg"],
        tiny(),
    );
    for (wanted, expected) in [
        (vec!["1"], vec!["a/2.png"]),
        (vec!["1..3"], vec!["a/2.png", "b/1.png"]),
        (vec!["3.."], vec!["b/[x].png"]),
        (vec!["b"], vec!["b/1.png", "b/[x].png"]),
        (vec!["1.jpg"], vec!["a/1.png", "b/1.png"]),
        (vec!["b/[x].jpg", "..1"], vec!["a/1.png", "b/[x].png"]),
    ] {
        let back = folder.path(&wanted.join("+").replace('/', "_"));
        let mut args = args![file, back].to_vec();
        args.extend(wanted.iter().map(|w| format!("--select={w}").into()));
        decompress(args).code(0);
        assert_eq!(tree(&back), expected, "{wanted:?}");
    }
    for wanted in ["4", "c", "9..12"] {
        let run = decompress(args!["--select", wanted, file, folder.path("none")]).code(1);
        assert!(run.err.contains("no such picture"), "{run:?}");
    }
    assert!(!folder.path("none").exists());
}

#[test]
fn views_are_in_the_name() {
    let folder = Folder::new();
    let (root, file) = (classes(&folder, "in", 2), folder.path("t.vqt"));
    compress(args!["--views", "flip", root, file]).code(0);
    decompress(args![file, folder.path("both")]).code(0);
    let both = [
        "birds/000.center-flip.png",
        "birds/000.center.png",
        "fish/001.center-flip.png",
        "fish/001.center.png",
    ];
    assert_eq!(tree(&folder.path("both")), both);
    decompress(args!["--view", "center", file, folder.path("one")]).code(0);
    assert_eq!(
        tree(&folder.path("one")),
        ["birds/000.center.png", "fish/001.center.png"]
    );
    let run = decompress(args!["--view", "left", file, folder.path("x")]).code(1);
    assert!(run.err.contains("center, center-flip"), "{run:?}");
}

#[test]
fn pictures_without_names_are_numbered() {
    let folder = Folder::new();
    let file = folder.path("t.vqt");
    named(&file, &[], tiny());
    decompress(args![file, folder.path("back")]).code(0);
    assert_eq!(
        tree(&folder.path("back")),
        ["000000.png", "000001.png", "000002.png"]
    );
}

#[test]
fn another_tokenizer_is_refused_and_another_decoder_is_not() {
    let folder = Folder::new();
    let (file, back) = (folder.path("t.vqt"), folder.path("back"));
    named(&file, &[b"a.png"], tiny());
    let other = model_file("other", 2);
    let run = vqlc(args!["decompress", "--model", other, file, back]).code(5);
    assert!(
        run.err.contains("codebook digest") && run.err.contains("encoder digest"),
        "{run:?}"
    );
    assert!(!back.exists());
    named(
        &file,
        &[b"a.png"],
        Digests {
            codebook: Digest([7; 32]),
            ..tiny()
        },
    );
    let run = decompress(args![file, back]).code(5);
    assert!(
        run.err.contains("codebook digest") && !run.err.contains("encoder digest"),
        "{run:?}"
    );
    named(
        &file,
        &[b"a.png"],
        Digests {
            decoder: Digest([7; 32]),
            ..tiny()
        },
    );
    let run = decompress(args![file, back]).code(0);
    assert!(run.err.contains("another decoder"), "{run:?}");
}

#[test]
fn nothing_is_written_outside() {
    let folder = Folder::new();
    let (file, back) = (folder.path("t.vqt"), folder.path("x/y/back"));
    let absolute = folder
        .path("absolute.png")
        .into_os_string()
        .into_string()
        .unwrap();
    named(
        &file,
        &[
            b"../up.png",
            b"a/../../../up.png",
            absolute.as_bytes(),
            b"a//b.png",
            b"fine.png",
            b"./dot.png",
        ],
        tiny(),
    );
    let run = decompress(args!["--json", file, back]).code(3);
    assert_eq!(
        run.json()["skipped"].as_array().unwrap().len(),
        5,
        "{run:?}"
    );
    assert_eq!(tree(&folder.path("x")), ["y/back/fine.png"]);
    assert_eq!(folder.listing(), ["t.vqt", "x"]);
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_a_link() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    let (file, back, outside) = (
        folder.path("t.vqt"),
        folder.path("back"),
        folder.path("outside"),
    );
    named(&file, &[b"a/b.png", b"c.png"], tiny());
    std::fs::create_dir(&back).unwrap();
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, back.join("a")).unwrap();
    let run = decompress(args!["--select", "a/b.png", file, back]).code(3);
    assert!(run.err.contains("is a symbolic link"), "{run:?}");
    let run = decompress(args!["--force", "--select", "a/b.png", file, back]).code(3);
    assert!(run.err.contains("is a symbolic link"), "{run:?}");
    std::fs::write(outside.join("kept"), "kept").unwrap();
    symlink(outside.join("kept"), back.join("c.png")).unwrap();
    decompress(args!["--select", "c.png", file, back]).code(1);
    decompress(args!["--force", "--select", "c.png", file, back]).code(0);
    assert_eq!(tree(&outside), ["kept"]);
    assert_eq!(std::fs::read(outside.join("kept")).unwrap(), b"kept");
    // A folder that is itself a link was named by the user.
    symlink(&outside, folder.path("link")).unwrap();
    decompress(args!["--select", "c.png", file, folder.path("link")]).code(0);
    assert_eq!(tree(&outside), ["c.png", "kept"]);
}

#[test]
fn one_name_that_cannot_be_written_does_not_stop_the_others() {
    let folder = Folder::new();
    let (file, back) = (folder.path("t.vqt"), folder.path("back"));
    let long = format!("{}.png", "n".repeat(300));
    named(
        &file,
        &[b"a.jpg", b"a.png/b.png", b"blocked/c.png", long.as_bytes()],
        tiny(),
    );
    std::fs::create_dir(&back).unwrap();
    std::fs::write(back.join("blocked"), "a file").unwrap();
    let run = decompress(args!["--json", file, back]).code(3);
    assert_eq!(run.json()["skipped"].as_array().unwrap().len(), 2);
    assert_eq!(tree(&back), ["a.jpg.png", "a.png/b.png", "blocked"]);
}

#[test]
fn a_crop_that_does_not_go_with_the_grid_is_damage() {
    let folder = Folder::new();
    let file = folder.path("t.vqt");
    let spec = Spec {
        digests: tiny(),
        preprocessing: Preprocessing::new(Fit::Crop { size: 80 }, Views::Center, 16, [255; 3])
            .unwrap()
            .to_bytes(),
        ..spec()
    };
    token_file(&file, &spec, 2);
    let run = decompress(args![file, folder.path("back")]).code(4);
    assert!(run.err.contains("grid of 4 x 4"), "{run:?}");
}

#[test]
fn what_is_there_stays_there() {
    let folder = Folder::new();
    let (file, back) = (folder.path("t.vqt"), folder.path("back"));
    named(&file, &[b"a.png", b"b.png", b"c.png"], tiny());
    std::fs::create_dir(&back).unwrap();
    std::fs::write(back.join("b.png"), "mine").unwrap();
    let run = decompress(args![file, back]).code(1);
    assert!(run.err.contains("b.png exists already"), "{run:?}");
    assert_eq!(tree(&back), ["b.png"]);
    // The wrong model is said first.
    vqlc(args![
        "decompress",
        "--model",
        model_file("wrong", 2),
        file,
        back
    ])
    .code(5);
    let json = decompress(args!["--json", "--skip-existing", file, back])
        .code(0)
        .json();
    assert_eq!((&json["files"], &json["existing"]), (&2.into(), &1.into()));
    assert_eq!(std::fs::read(back.join("b.png")).unwrap(), b"mine");
    decompress(args!["--force", file, back]).code(0);
    assert_eq!(
        image::image_dimensions(back.join("b.png")).unwrap(),
        (64, 64)
    );
    assert_eq!(
        tree(&back),
        ["a.png", "b.png", "c.png"],
        "no temporary file stays"
    );
}

#[test]
fn a_damaged_block_is_exit_code_4_and_no_half_picture() {
    let folder = Folder::new();
    let (file, back) = (folder.path("t.vqt"), folder.path("back"));
    let names: Vec<String> = (0..40).map(|i| format!("{i:02}.png")).collect();
    named(
        &file,
        &names.iter().map(String::as_bytes).collect::<Vec<_>>(),
        tiny(),
    );
    // Blocks hold 8 records of 20 bytes; the last one lies before the side sections.
    let whole = std::fs::read(&file).unwrap();
    let ids = [39_u32; 16];
    let mut packed = [0; 20];
    vqlc_format::pack::pack(&ids, 10, &mut packed);
    let at = whole
        .windows(20)
        .position(|window| window == packed)
        .expect("the last record is in the file");
    flip(&file, at as u64);
    let run = decompress(args!["--batch", "4", file, back]).code(4);
    assert!(
        run.err.contains("block 4") && run.err.contains("vqlc recover"),
        "{run:?}"
    );
    for name in tree(&back) {
        assert!(name.as_str() < "32.png", "{name} is of the damaged block");
        assert_eq!(image::open(back.join(name)).unwrap().width(), 64);
    }
    decompress(args!["--select", "0..32", file, folder.path("rest")]).code(0);
    std::fs::write(&file, "no token file").unwrap();
    decompress(args![file, folder.path("none")]).code(4);
    assert!(!folder.path("none").exists());
    assert!(
        decompress(args![folder.path("gone.vqt"), back])
            .code(1)
            .err
            .contains("gone.vqt")
    );
}
