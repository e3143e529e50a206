//! `vqlc merge`, `split` and `recover`: whole files out of parts, parts out of whole files, and what is left of damaged ones.

mod common;

use common::{CODEBOOK_SIZE, Folder, flip, spec, token_file, vqlc};
use vqlc_format::{Grid, Spec, TokenFile, records};

fn ids(path: &std::path::Path) -> Vec<u32> {
    let file = TokenFile::read(path).unwrap();
    let mut all = Vec::new();
    let mut one = Vec::new();
    for record in 0..file.len() {
        file.get(record, &mut one).unwrap();
        all.extend(&one);
    }
    all
}

#[test]
fn what_is_split_and_merged_is_the_same_file() {
    let folder = Folder::new();
    let kinds = [
        ("fixed", spec()),
        (
            "two views",
            Spec {
                views: vec!["a".into(), "b".into()],
                ..spec()
            },
        ),
        (
            "varying",
            Spec {
                grid: Grid::Varying,
                classes: None,
                ..spec()
            },
        ),
    ];
    for (name, spec) in kinds {
        let path = folder.path("all.vqt");
        token_file(&path, &spec, 50);
        vqlc(args!["split", "-n", "3", path, folder.path("part.vqt")]).code(0);
        let parts: Vec<_> = (0..3)
            .map(|part| folder.path(&format!("part-0000{part}-of-00003.vqt")))
            .collect();
        vqlc(args!["validate", parts[0], parts[1], parts[2]]).code(0);
        let joined = folder.path("joined.vqt");
        let run = vqlc(args![
            "merge", "--force", parts[0], parts[1], parts[2], joined
        ])
        .code(0);
        assert!(
            run.out.is_empty()
                && run.err.contains("3 files merged into")
                && run.err.contains("50 pictures"),
            "{run:?}"
        );
        assert!(
            std::fs::read(&path).unwrap() == std::fs::read(&joined).unwrap(),
            "{name}"
        );
        for part in parts {
            std::fs::remove_file(part).unwrap();
        }
    }
}

#[test]
fn shards_hold_no_more_records_than_asked() {
    let folder = Folder::new();
    let path = folder.path("all.vqt");
    token_file(
        &path,
        &Spec {
            views: vec!["a".into(), "b".into()],
            ..spec()
        },
        25,
    );
    let run = vqlc(args![
        "split",
        "--json",
        "--records",
        "15",
        path,
        folder.path("p.vqt")
    ])
    .code(0);
    // 7 pictures of 2 records a shard: 25 pictures in 4 shards.
    let json = run.json();
    let files = json["files"].as_array().unwrap();
    assert_eq!(files.len(), 4);
    assert!(
        files
            .iter()
            .all(|file| file["records"].as_u64().unwrap() <= 15),
        "{json}"
    );
    assert_eq!(
        files
            .iter()
            .map(|file| file["pictures"].as_u64().unwrap())
            .sum::<u64>(),
        25
    );
    let run = vqlc(args!["split", "--records", "1", path, folder.path("p.vqt")]).code(1);
    assert!(run.err.contains("each picture has 2 records"), "{run:?}");
    vqlc(args!["split", path, folder.path("p.vqt")]).code(1);
    vqlc(args!["split", "-n", "0", path, folder.path("p.vqt")]).code(1);
    vqlc(args![
        "split",
        "-n",
        "2",
        "--records",
        "9",
        path,
        folder.path("p.vqt")
    ])
    .code(1);
}

#[test]
fn outputs_are_not_overwritten_unless_forced() {
    let folder = Folder::new();
    let path = folder.path("all.vqt");
    token_file(&path, &spec(), 10);
    vqlc(args!["split", "-n", "2", path, folder.path("p.vqt")]).code(0);
    let before = folder.listing();
    let run = vqlc(args!["split", "-n", "2", path, folder.path("p.vqt")]).code(1);
    assert!(run.err.contains("--force replaces it"), "{run:?}");
    for unnamed in [folder.path(""), folder.path("none/"), folder.path("..")] {
        let run = vqlc(args!["split", "-n", "2", path, unnamed]).code(1);
        assert!(run.err.contains("is a folder"), "{run:?}");
    }
    vqlc(args!["split", "-f", "-n", "2", path, folder.path("p.vqt")]).code(0);
    let parts = ["p-00000-of-00002.vqt", "p-00001-of-00002.vqt"].map(|name| folder.path(name));
    let run = vqlc(args!["merge", parts[0], parts[1], path]).code(1);
    assert!(
        run.err.contains("all.vqt") && run.err.contains("exists"),
        "{run:?}"
    );
    let run = vqlc(args!["recover", parts[0], path]).code(1);
    assert!(run.err.contains("exists"), "{run:?}");
    vqlc(args!["merge", "--force", "-q", parts[0], parts[1], path]).code(0);
    assert_eq!(folder.listing(), before);
}

#[test]
fn files_of_different_jobs_are_not_merged() {
    let folder = Folder::new();
    let (a, b) = (folder.path("a.vqt"), folder.path("b.vqt"));
    token_file(&a, &spec(), 10);
    token_file(
        &b,
        &Spec {
            codebook_size: CODEBOOK_SIZE + 1,
            ..spec()
        },
        10,
    );
    let run = vqlc(args!["merge", a, b, folder.path("c.vqt")]).code(1);
    assert!(
        run.err.contains("cannot merge") && run.err.contains("1001"),
        "{run:?}"
    );
    assert_eq!(folder.listing(), ["a.vqt", "b.vqt"]);
    flip(&a, 3000);
    vqlc(args!["merge", a, a, folder.path("c.vqt")]).code(4);
    assert_eq!(folder.listing(), ["a.vqt", "b.vqt"]);
    vqlc(args![
        "merge",
        folder.path("none.vqt"),
        folder.path("c.vqt")
    ])
    .code(1);
    vqlc(args!["merge", a]).code(1);
}

#[test]
fn recover_saves_what_is_right_and_says_what_is_lost() {
    let folder = Folder::new();
    let path = folder.path("bad.vqt");
    let written = token_file(&path, &spec(), 50);
    let file = TokenFile::read(&path).unwrap();
    let blocks = file
        .header()
        .sections
        .iter()
        .find(|section| section.kind == records::BLOCKS)
        .unwrap()
        .offset;
    flip(&path, blocks + 60);
    let before = std::fs::read(&path).unwrap();
    let saved = folder.path("saved.vqt");
    let run = vqlc(args!["recover", "-q", path, saved]).code(3);
    assert!(
        run.err
            .contains("saved.vqt: saved 42 of 50 pictures (lost: 0-7)"),
        "{run:?}"
    );
    assert!(
        std::fs::read(&path).unwrap() == before,
        "the input was changed"
    );
    vqlc(args!["validate", saved]).code(0);
    assert_eq!(ids(&saved), written[8 * 16..]);

    // A lost header is in the footer once more.
    token_file(&path, &spec(), 50);
    flip(&path, 100);
    let json = vqlc(args!["recover", "--json", "--force", path, saved])
        .code(0)
        .json();
    assert_eq!(
        (
            &json["learnt_from"],
            &json["pictures_saved"],
            &json["written"]["pictures"]
        ),
        (&"footer".into(), &50.into(), &50.into())
    );
    assert_eq!(ids(&saved), written);
}

#[test]
fn recover_of_what_cannot_be_saved_leaves_nothing() {
    let folder = Folder::new();
    let path = folder.path("bad.vqt");
    std::fs::write(&path, [7; 5000]).unwrap();
    vqlc(args!["recover", path, folder.path("saved.vqt")]).code(4);
    vqlc(args![
        "recover",
        folder.path("none.vqt"),
        folder.path("saved.vqt")
    ])
    .code(1);
    assert_eq!(folder.listing(), ["bad.vqt"]);
}
