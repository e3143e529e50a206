//! `vqlc eval reconstruction`: the same figures by every way, and what is refused.

mod common;

use std::{fs, path::PathBuf};

use common::{Folder, Run, tiny_model, vqlc};
use vqlc_format::TokenFile;

/// The repository's pictures.
fn pictures() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures", "pictures"]
        .iter()
        .collect()
}

fn measure<const N: usize>(args: [std::ffi::OsString; N]) -> Run {
    let first = ["eval", "reconstruction"].map(Into::into);
    vqlc(first.into_iter().chain(args))
}

const FIGURES: [&str; 4] = ["pictures", "psnr", "psnr_luma", "ssim"];

#[test]
fn three_ways_give_the_same_figures() {
    let folder = Folder::new();
    let (tokens, back) = (folder.path("t.vqt"), folder.path("back"));
    vqlc(args!["compress", "-q", "--size", "64", pictures(), tokens]).code(0);
    vqlc(args!["decompress", "-q", tokens, back]).code(0);
    let by_model = measure(args![pictures(), "--size", "64", "--json"])
        .code(0)
        .json();
    let by_tokens = measure(args![pictures(), tokens, "--json", "--threads", "1"])
        .code(0)
        .json();
    let by_folders = measure(args![pictures(), back, "--size", "64", "--json"])
        .code(0)
        .json();
    for figure in FIGURES {
        assert!(by_model[figure].is_number(), "{figure}: {by_model}");
        assert_eq!(by_model[figure], by_tokens[figure], "{figure}");
        assert_eq!(by_model[figure], by_folders[figure], "{figure}");
    }
    assert_eq!(by_model["pictures"], 8);
    // 16 ids of 17 bits for 64 x 64 pixels.
    assert_eq!(by_model["bits_per_pixel"], 17.0 * 16.0 / 4096.0);
    assert_eq!(by_model["bits_per_pixel"], by_tokens["bits_per_pixel"]);
    assert_eq!(by_model["protocol"], by_tokens["protocol"]);
    assert!(by_folders.get("bits_per_pixel").is_none(), "{by_folders}");
    assert!(
        by_folders["protocol"].get("model").is_none(),
        "{by_folders}"
    );
    let again = measure(args![pictures(), "--size", "64", "--json"])
        .code(0)
        .json();
    assert_eq!(by_model, again);
    let text = measure(args![pictures(), tokens]).code(0).out;
    for part in [
        "PSNR",
        "SSIM",
        "protocol",
        "centre crop 64 x 64",
        "8 pictures",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn whole_pictures_are_cut_back_to_their_sizes() {
    let folder = Folder::new();
    let (tokens, back) = (folder.path("t.vqt"), folder.path("back"));
    let whole = ["--fit", "whole", "--max-side", "90"];
    vqlc(
        args!["compress", "-q"]
            .into_iter()
            .chain(whole.map(Into::into))
            .chain(args![pictures(), tokens]),
    )
    .code(0);
    vqlc(args!["decompress", "-q", tokens, back]).code(0);
    let found = measure(args![pictures(), tokens, "--json"]).code(0).json();
    assert_eq!(found["pictures"], 8);
    let sizes = found["protocol"]["sizes"].to_string();
    assert!(sizes.contains("90"), "{sizes}");
    // The decoded pictures beside themselves: nothing is lost, and infinity is no number in JSON.
    let same = measure(args![back, back, "--json"]).code(0).json();
    assert!(same["psnr"].is_null());
    assert_eq!(same["ssim"], 1.0);
}

#[test]
fn what_cannot_be_compared_is_listed_or_refused() {
    let folder = Folder::new();
    let made = folder.path("made");
    fs::create_dir_all(made.join("fruit")).unwrap();
    fs::copy(
        pictures().join("fruit/orange.jpg"),
        made.join("fruit/orange.jpg"),
    )
    .unwrap();
    fs::copy(
        pictures().join("fruit/orange.jpg"),
        made.join("fruit/stranger.jpg"),
    )
    .unwrap();
    fs::write(made.join("fruit/lemon.png"), b"no picture").unwrap();
    let found = measure(args![pictures(), made, "--json"]).code(3).json();
    assert_eq!(
        (&found["pictures"], &found["skipped"]),
        (&1.into(), &2.into())
    );
    let left_out = found["left_out"].to_string();
    assert!(left_out.contains("no original has its name"), "{left_out}");

    // Too small for the window of SSIM.
    let small = folder.path("small");
    fs::create_dir(&small).unwrap();
    fs::copy(made.join("fruit/orange.jpg"), small.join("a.jpg")).unwrap();
    let run = measure(args![small, small, "--size", "8"]).code(1);
    assert!(
        run.err.contains("a.jpg") && run.err.lines().count() == 1,
        "{run:?}"
    );

    // Pictures as they are that are too large for the memory.
    let run = measure(args![pictures(), pictures(), "--max-memory", "1M"]).code(1);
    assert!(run.err.contains("more than may be used"), "{run:?}");

    // Nothing at all in common.
    fs::remove_dir_all(made.join("fruit")).unwrap();
    fs::copy(pictures().join("fruit/orange.jpg"), made.join("x.jpg")).unwrap();
    let run = measure(args![pictures(), made]).code(1);
    assert!(
        run.err.contains("nothing could be measured") && run.err.lines().count() == 1,
        "{run:?}"
    );

    // Another model, an option that does not go with a token file, a size that is no multiple.
    let tokens = folder.path("t.vqt");
    vqlc(args!["compress", "-q", "--size", "64", pictures(), tokens]).code(0);
    let other = folder.path("other.safetensors");
    tiny_model(1).write(&other).unwrap();
    measure(args![pictures(), tokens, "--model", other]).code(5);
    measure(args![pictures(), tokens, "--size", "64"]).code(1);
    measure(args![pictures(), "--size", "65"]).code(1);
    let run = measure(args![pictures(), "--size", "60000", "--max-memory", "1G"]).code(1);
    assert!(run.err.contains("of memory"), "{run:?}");
    measure(args![pictures(), made, "--model", other]).code(1);
    measure(args![folder.path("nowhere")]).code(1);
    // Its originals are not there.
    let run = measure(args![made, tokens]).code(1);
    assert!(
        run.err.contains("penguin") && run.err.lines().count() == 1,
        "{run:?}"
    );
    // A damaged block of ids.
    let blocks = {
        let file = TokenFile::open(&tokens).unwrap();
        let section = file.header().sections().iter();
        section.min_by_key(|section| section.offset).unwrap().offset
    };
    common::flip(&tokens, blocks + 20);
    measure(args![pictures(), tokens]).code(4);
}
