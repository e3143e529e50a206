//! `vqlc eval generation`, with networks of random weights: what they see is of no worth, but the same by every way.

mod common;
mod networks;

use std::{ffi::OsString, fs, path::PathBuf};

use common::{Folder, Run, tiny_model, vqlc};

/// The repository's eight pictures.
fn pictures() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures", "pictures"]
        .iter()
        .collect()
}

fn measure<const N: usize>(args: [OsString; N]) -> Run {
    let first = ["eval", "generation"].map(Into::into);
    vqlc(first.into_iter().chain(args))
}

#[test]
fn folders_token_files_and_statistics_give_the_same_figures() {
    let folder = Folder::new();
    let (tokens, back) = (folder.path("t.vqt"), folder.path("back"));
    let (net, saved) = (folder.path("net.safetensors"), folder.path("saved.npz"));
    networks::efficientnet(&net);
    vqlc(args!["compress", "-q", "--size", "64", pictures(), tokens]).code(0);
    vqlc(args!["decompress", "-q", tokens, back]).code(0);
    let figure = |run: Run| run.code(0).json()["fd_efflite0"].as_f64().unwrap();
    let by_tokens = measure(args![
        tokens,
        pictures(),
        "--size",
        "64",
        "--efficientnet",
        net,
        "--precision-recall",
        "--json"
    ]);
    let json = by_tokens.code(0).json();
    let value = json["fd_efflite0"].as_f64().unwrap();
    assert!(value > 0.0, "{json}");
    for share in ["precision_efflite0", "recall_efflite0"] {
        assert!(
            (0.0..=1.0).contains(&json[share].as_f64().unwrap()),
            "{json}"
        );
    }
    assert_eq!(
        (&json["made"]["pictures"], &json["reference"]["pictures"]),
        (&8.into(), &8.into())
    );
    assert!(json.get("fid").is_none(), "{json}");
    let protocol = json["protocol"].as_str().unwrap();
    for rule in ["FD-EffLite0 on", "by 3 neighbours", "weights", "vqlc "] {
        assert!(protocol.contains(rule), "{protocol}");
    }
    assert!(!protocol.contains("FID on"), "{protocol}");
    let by_folders = figure(measure(args![
        back,
        pictures(),
        "--size",
        "64",
        "--efficientnet",
        net,
        "--json",
        "--threads",
        "1",
        "--save-statistics",
        saved
    ]));
    assert_eq!(value, by_folders);
    let by_statistics = figure(measure(args![
        back,
        saved,
        "--size",
        "64",
        "--efficientnet",
        net,
        "--json"
    ]));
    // A covariance put together from its file is the same one.
    assert_eq!(value, by_statistics);
    // A set beside itself.
    let json = measure(args![
        tokens,
        tokens,
        "--efficientnet",
        net,
        "--precision-recall",
        "--json"
    ])
    .code(0)
    .json();
    assert!(
        json["fd_efflite0"].as_f64().unwrap().abs() < 1e-6 * value,
        "{json}"
    );
    assert_eq!(
        (&json["precision_efflite0"], &json["recall_efflite0"]),
        (&1.0.into(), &1.0.into())
    );
    let text = measure(args![tokens, saved, "--efficientnet", net])
        .code(0)
        .out;
    for part in [
        "FD-EffLite0",
        "made",
        "reference",
        "8 pictures",
        "EfficientNet-Lite0 weights",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // What there is stays; statistics of other weights, damaged ones, and what they cannot give.
    measure(args![
        back,
        pictures(),
        "--size",
        "64",
        "--efficientnet",
        net,
        "--save-statistics",
        saved
    ])
    .code(1);
    let mut bytes = fs::read(&net).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(folder.path("other.safetensors"), bytes).unwrap();
    let run = measure(args![
        tokens,
        saved,
        "--efficientnet",
        folder.path("other.safetensors")
    ])
    .code(1);
    assert!(
        run.err.contains("digest") && run.err.lines().count() == 1,
        "{run:?}"
    );
    measure(args![
        tokens,
        saved,
        "--efficientnet",
        net,
        "--precision-recall"
    ])
    .code(1);
    fs::write(&saved, &fs::read(&saved).unwrap()[..3000]).unwrap();
    measure(args![tokens, saved, "--efficientnet", net]).code(1);
}

#[test]
fn inception_gives_fid_and_its_score_and_rfid() {
    let folder = Folder::new();
    let (net, some, two) = (
        folder.path("net.safetensors"),
        folder.path("some"),
        folder.path("two"),
    );
    networks::inception(&net);
    for (to, count) in [(&some, 10), (&two, 2)] {
        fs::create_dir(to).unwrap();
        for i in 1..count {
            fs::copy(
                pictures().join("fruit/orange.jpg"),
                to.join(format!("{i}.jpg")),
            )
            .unwrap();
        }
        fs::copy(pictures().join("birds/penguin.png"), to.join("0.png")).unwrap();
    }
    let run = measure(args![
        some,
        two,
        "--size",
        "32",
        "--inception",
        net,
        "--json"
    ]);
    let json = run.code(0).json();
    assert!(json["fid"].as_f64().unwrap() > 0.0, "{json}");
    assert!(json["inception_score"].as_f64().unwrap() >= 1.0, "{json}");
    assert!(json.get("fd_efflite0").is_none(), "{json}");
    let reconstruction = ["eval", "reconstruction", "--size", "32", "--json"].map(OsString::from);
    let paired = vqlc(
        reconstruction
            .into_iter()
            .chain(args![two, two, "--inception", net]),
    );
    assert!(paired.code(0).json()["rfid"].as_f64().unwrap().abs() < 1e-3);
}

#[test]
fn what_cannot_be_measured_is_said() {
    let folder = Folder::new();
    let net = folder.path("net.safetensors");
    networks::efficientnet(&net);
    let run = measure(args![pictures(), pictures()]).code(1);
    assert!(
        run.err.contains("--inception") && run.err.lines().count() == 1,
        "{run:?}"
    );
    // Not square, and no size to cut them to.
    let run = measure(args![pictures(), pictures(), "--efficientnet", net]).code(1);
    assert!(
        run.err.contains("square") && run.err.lines().count() == 1,
        "{run:?}"
    );
    let run = measure(args![
        folder.path("nowhere"),
        pictures(),
        "--efficientnet",
        net
    ])
    .code(1);
    assert!(run.err.contains("nowhere"), "{run:?}");
    // One picture has no covariance.
    let one = folder.path("one");
    fs::create_dir(&one).unwrap();
    fs::copy(pictures().join("fruit/orange.jpg"), one.join("a.jpg")).unwrap();
    measure(args![
        one,
        pictures(),
        "--size",
        "64",
        "--efficientnet",
        net
    ])
    .code(1);
    // More unreadable pictures in a row than are looked at together are left out; two are left.
    for i in 0..20 {
        fs::write(one.join(format!("A{i:02}.jpg")), b"none").unwrap();
    }
    fs::copy(pictures().join("fruit/orange.jpg"), one.join("b.jpg")).unwrap();
    let run = measure(args![
        one,
        pictures(),
        "--size",
        "64",
        "--efficientnet",
        net,
        "--json"
    ])
    .code(3);
    let json = run.json();
    assert_eq!(json["made"]["pictures"], 2);
    assert_eq!(json["made"]["left_out"].as_array().unwrap().len(), 20);
    assert_eq!(json["made"]["sizes"].to_string(), "[[64,64],[64,64]]");
    // Too few for neighbours.
    let run = measure(args![
        one,
        pictures(),
        "--size",
        "64",
        "--efficientnet",
        net,
        "--precision-recall"
    ]);
    assert!(run.code(1).err.contains("more than 3 pictures"));
    // Crops that would fill the memory.
    let run = measure(args![
        one,
        one,
        "--size",
        "60000",
        "--efficientnet",
        net,
        "--max-memory",
        "1G"
    ]);
    assert!(run.code(1).err.contains("of memory"));
    // Another tokenizer's tokens.
    let (tokens, other) = (folder.path("t.vqt"), folder.path("m.safetensors"));
    tiny_model(1).write(&other).unwrap();
    vqlc(args!["compress", "-q", "--size", "64", pictures(), tokens]).code(0);
    measure(args![
        tokens,
        pictures(),
        "--efficientnet",
        net,
        "--model",
        other
    ])
    .code(5);
}
