//! `vqlc validate`: what it accepts, what it refuses with which code, and what it says.

mod common;

use common::{Folder, digests, flip, spec, tiny_model, token_file, vqlc};
use vqlc_format::{Digest, Digests, Spec, TokenFile, records};

/// A good file of 50 pictures in 7 blocks.
fn good(folder: &Folder, name: &str) -> std::path::PathBuf {
    let path = folder.path(name);
    token_file(&path, &spec(), 50);
    path
}

#[test]
fn a_good_file_is_ok() {
    let folder = Folder::new();
    let run = vqlc(args!["validate", good(&folder, "good.vqt")]).code(0);
    assert!(
        run.out.contains("good.vqt: ok: 50 pictures, 50 records,")
            && run.out.contains("every byte checked"),
        "{run:?}"
    );
    assert_eq!(run.err, "");
    let quiet = vqlc(args!["validate", "-q", folder.path("good.vqt")]).code(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
}

#[test]
fn a_sample_says_so_in_the_last_line() {
    let folder = Folder::new();
    let run = vqlc(args![
        "validate",
        "--sample",
        "20%",
        good(&folder, "good.vqt")
    ])
    .code(0);
    let last = run.out.lines().last().unwrap();
    assert!(
        last.contains("sampled: every section and 2 of 7 blocks (28.6%) checked"),
        "{last}"
    );
    for bad in ["0", "101%", "some"] {
        vqlc(args!["validate", "--sample", bad, folder.path("good.vqt")]).code(1);
    }
}

#[test]
fn damage_anywhere_is_code_4() {
    let folder = Folder::new();
    let path = good(&folder, "damaged.vqt");
    let whole = std::fs::read(&path).unwrap();
    let mut places = vec![("header", 20)];
    let file = TokenFile::new(whole.clone()).unwrap();
    let header = *file.header();
    for section in &header.sections[..header.section_count as usize] {
        places.push(("section", section.offset + section.length / 2));
    }
    places.push(("footer", header.file_length - 20));
    assert!(places.len() >= 9, "{places:?}");
    for (what, offset) in places {
        std::fs::write(&path, &whole).unwrap();
        flip(&path, offset);
        let run = vqlc(args!["validate", path]).code(4);
        assert_eq!(run.out, "", "{what} {offset}");
        assert!(
            run.err.contains("damaged.vqt: damaged: ")
                && run.err.contains("`vqlc recover` could save"),
            "{what} {offset}: {run:?}"
        );
    }
}

#[test]
fn what_is_no_token_file_is_damaged_and_what_is_not_there_is_an_error() {
    let folder = Folder::new();
    let path = good(&folder, "cut.vqt");
    let whole = std::fs::read(&path).unwrap();
    for bytes in [
        &whole[..whole.len() - 1],
        &whole[..100],
        b"",
        b"not a token file, but long enough to be one at the first glance",
    ] {
        std::fs::write(&path, bytes).unwrap();
        vqlc(args!["validate", path]).code(4);
    }
    let run = vqlc(args!["validate", folder.path("nothing.vqt")]).code(1);
    assert!(run.err.contains("nothing.vqt"), "{run:?}");
    vqlc(["validate"]).code(1);
}

#[test]
fn several_files_give_the_gravest_code() {
    let folder = Folder::new();
    let (good_file, bad, missing) = (
        good(&folder, "good.vqt"),
        good(&folder, "bad.vqt"),
        folder.path("missing.vqt"),
    );
    flip(&bad, 3000);
    let run = vqlc(args!["validate", missing, bad, good_file]).code(4);
    assert!(
        run.out.contains("good.vqt: ok")
            && run.err.contains("bad.vqt: damaged")
            && run.err.contains("missing.vqt: "),
        "{run:?}"
    );
    vqlc(args!["validate", good_file, missing]).code(1);
    vqlc(args!["validate", good_file, good_file]).code(0);
}

#[test]
fn the_damaged_block_and_what_is_left_are_named() {
    let folder = Folder::new();
    let path = good(&folder, "bad.vqt");
    let file = TokenFile::read(&path).unwrap();
    let blocks = file
        .header()
        .sections
        .iter()
        .find(|section| section.kind == records::BLOCKS)
        .unwrap()
        .offset;
    // Somewhere in the ids of block 0, whose header has 48 bytes.
    flip(&path, blocks + 60);
    let run = vqlc(args!["validate", path]).code(4);
    assert!(
        run.err.contains("block 0") && run.err.contains("could save 42 of 50 pictures (lost: 0-7)"),
        "{run:?}"
    );
    let json = vqlc(args!["validate", "--json", path]).code(4).json();
    let file = &json["files"][0];
    assert_eq!(
        (&json["ok"], &file["status"]),
        (&false.into(), &"damaged".into())
    );
    assert_eq!(file["problems"][0]["what"], "block 0");
    assert_eq!(file["problems"][0]["offset"], blocks);
    assert_eq!(file["recover"]["pictures_saved"], 42);
    assert_eq!(file["recover"]["lost"], serde_json::json!([[0, 8]]));
}

#[test]
fn a_model_is_compared_by_its_digests() {
    let folder = Folder::new();
    let model = tiny_model(1);
    let model_path = folder.path("model.safetensors");
    model.write(&model_path).unwrap();
    let path = folder.path("t.vqt");
    let own = digests(&model);
    let make = |digests: Digests| token_file(&path, &Spec { digests, ..spec() }, 9);

    make(own);
    vqlc(args!["validate", "--model", model_path, path]).code(0);
    let run = vqlc(args!["validate", "--default-model", path]).code(5);
    assert!(
        run.err.contains("codebook digest") && run.err.contains("encoder digest"),
        "{run:?}"
    );

    make(Digests {
        decoder: Digest([7; 32]),
        ..own
    });
    let run = vqlc(args!["validate", "--model", model_path, path]).code(0);
    assert!(run.err.contains("another decoder"), "{run:?}");

    make(Digests {
        codebook: Digest([7; 32]),
        ..own
    });
    let run = vqlc(args!["validate", "--model", model_path, path]).code(5);
    assert!(
        run.err.contains("wrong model: codebook digest") && !run.err.contains("encoder digest"),
        "{run:?}"
    );
    assert_eq!(
        vqlc(args!["validate", "--json", "--model", model_path, path])
            .code(5)
            .json()["files"][0]["status"],
        "wrong model"
    );
    // Without a model nothing is asked.
    vqlc(args!["validate", path]).code(0);

    // Damage comes first, and before a model that cannot be read.
    flip(&path, 3000);
    vqlc(args!["validate", "--model", model_path, path]).code(4);
    vqlc(args![
        "validate",
        "--model",
        folder.path("no.safetensors"),
        path
    ])
    .code(4);
    make(own);
    let run = vqlc(args![
        "validate",
        "--model",
        folder.path("no.safetensors"),
        path
    ])
    .code(1);
    assert!(run.err.contains("no.safetensors"), "{run:?}");
}

#[test]
fn json_tells_what_was_checked() {
    let folder = Folder::new();
    let path = good(&folder, "good.vqt");
    let json = vqlc(args!["validate", "--json", path, folder.path("no.vqt")])
        .code(1)
        .json();
    let (good, missing) = (&json["files"][0], &json["files"][1]);
    assert_eq!(
        (&good["status"], &good["pictures"], &good["codebook_size"]),
        (&"ok".into(), &50.into(), &1000.into())
    );
    assert_eq!(
        (&good["checked"]["blocks"], &good["checked"]["of_blocks"]),
        (&7.into(), &7.into())
    );
    assert_eq!(good["checked"]["ids"], 50 * 16);
    assert_eq!(good["checked"]["bytes"], path.metadata().unwrap().len());
    assert_eq!(missing["status"], "unreadable");
    assert!(
        missing["error"].as_str().unwrap().contains("no.vqt"),
        "{missing}"
    );
}
