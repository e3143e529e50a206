//! `vqlc codebook`, with an EfficientNet-Lite0 of random weights.

mod common;
mod networks;

use std::path::Path;

use common::{Folder, vqlc};
use vqlc_train::codebook::Codebook;

/// A folder with weights and two pictures in two classes.
fn job() -> Folder {
    let folder = Folder::new();
    networks::efficientnet(&folder.path("weights.safetensors"));
    for name in ["birds/penguin.png", "mammals/horse.jpg"] {
        let to = folder.path("pictures").join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pictures");
        std::fs::copy(from.join(name), to).unwrap();
    }
    folder
}

fn build(folder: &Folder, out: &str, more: &[&str]) -> common::Run {
    let mut args = args![
        "codebook",
        folder.path("pictures"),
        folder.path(out),
        "--backbone",
        "efficientnet-lite0",
        "--weights",
        folder.path("weights.safetensors"),
    ]
    .to_vec();
    args.extend(more.iter().map(std::ffi::OsString::from));
    vqlc(args)
}

#[test]
fn a_codebook_is_the_same_on_any_number_of_threads() {
    let folder = job();
    let run = build(&folder, "a", &["--codes", "20", "--iterations", "3"]).code(0);
    assert!(
        run.out.is_empty() && run.err.contains("iteration 3"),
        "{run:?}"
    );
    let more = [
        "--codes",
        "20",
        "--iterations",
        "3",
        "--threads",
        "1",
        "--json",
    ];
    let json = build(&folder, "b", &more).code(0).json();
    assert_eq!(json["codes"], 20);
    assert_eq!(json["provenance"]["features"], 512);
    let read = |name| std::fs::read(folder.path(name)).unwrap();
    // Not assert_eq: nobody reads that many bytes.
    assert!(read("a") == read("b"), "the files differ");
    assert!(!folder.path("a.state").exists());
    assert_eq!(
        Codebook::read(&folder.path("a")).unwrap().counts().len(),
        20
    );

    let told = vqlc(args!["codebook", "info", folder.path("a")])
        .code(0)
        .out;
    assert!(
        told.contains("20 of 112 numbers") && told.contains("cluster sizes"),
        "{told}"
    );
    let told = vqlc(args!["codebook", "info", "--json", folder.path("a")]).code(0);
    assert_eq!(told.json()["digest"], json["digest"]);

    // What is there is not replaced unasked.
    let err = build(&folder, "a", &["--codes", "20"]).code(1).err;
    assert!(err.contains("--force"), "{err}");
}

#[test]
fn classes_pooling_a_draw_and_an_unreadable_picture() {
    let folder = job();
    std::fs::write(folder.path("pictures").join("birds/broken.png"), "no").unwrap();
    let more = [
        "--codes",
        "7",
        "--per-class",
        "--select",
        "random",
        "--pool",
        "4",
        "--json",
    ];
    let run = build(&folder, "a", &more).code(3);
    assert!(run.err.contains("birds/broken.png"), "{run:?}");
    let from = &run.json()["provenance"];
    assert_eq!(from["classes"], 2);
    assert_eq!(from["unreadable"], 1);
    assert_eq!(from["pool"], 4);
    assert_eq!(from["iterations"], 0);
}

#[test]
fn what_cannot_work_is_said_before_the_work() {
    let folder = job();
    let err = build(&folder, "a", &["--codes", "1000"]).code(1).err;
    assert!(
        err.contains("at least 1000: 4 pictures") && err.contains("512"),
        "{err}"
    );
    let err = build(&folder, "a", &["--codes", "10", "--pool", "3"])
        .code(1)
        .err;
    assert!(err.contains("does not divide"), "{err}");
    let err = build(&folder, "a", &["--backbone", "vgg"]).code(1).err;
    assert!(!err.is_empty());
    std::fs::write(folder.path("weights.safetensors"), "no").unwrap();
    let err = build(&folder, "a", &["--codes", "10"]).code(1).err;
    assert!(err.contains("weights.safetensors"), "{err}");
    vqlc(args![
        "codebook",
        "info",
        folder.path("weights.safetensors")
    ])
    .code(1);
    vqlc(["codebook"]).code(1);
    assert!(!folder.path("a").exists());
}

/// What `vqlc codebook` writes is what `vqlc train tokenizer` takes, sizes and all, also when the run goes on.
#[test]
fn a_tokenizer_is_trained_from_a_codebook() {
    let folder = job();
    build(&folder, "book.safetensors", &["--codes", "20"]).code(0);
    let train = |steps: &str, how: &[std::ffi::OsString]| {
        let mut args = args!["train", "tokenizer", "--out", folder.path("run")].to_vec();
        args.extend_from_slice(how);
        for set in [
            steps,
            "data.size=32",
            "data.eval_size=32",
            "warm_start.steps=1",
            "warm_start.latents=64",
            "watch.usage_tokens_per_code=1",
            "checkpoint.every=1",
        ] {
            args.extend(args!["--set", set]);
        }
        vqlc(args).code(0)
    };
    train(
        "run.steps=2",
        &args![
            "--preset",
            "tiny",
            "--images",
            folder.path("pictures"),
            "--codebook",
            folder.path("book.safetensors"),
            "--perceptual-weights",
            folder.path("weights.safetensors"),
            "--set",
            "loss.perceptual_network=efficientnet",
            "--set",
            "loss.perceptual=0.1"
        ],
    );
    train("run.steps=3", &args!["--resume"]);
    let model = folder.path("run/model.safetensors");
    let json = vqlc(args!["model", "info", "--json", model]).code(0).json();
    let config = &json["config"];
    assert_eq!(
        (&config["n_codes"], &config["code_dim"]),
        (&20.into(), &112.into())
    );
}
