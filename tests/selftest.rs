//! `vqlc selftest` and `bench`: they run on any machine, and selftest fails when something is wrong.

mod common;

use std::path::{Path, PathBuf};

use common::{Folder, tiny_model, vqlc};

/// The tensors of another implementation that come with the repository.
fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/reference")
}

fn model(folder: &Folder) -> PathBuf {
    let path = folder.path("model.safetensors");
    tiny_model(1).write(&path).unwrap();
    path
}

/// Which way maps lie changes the memory and nothing else: the same reference tensors, values and gradients, of all networks.
#[test]
fn networks_take_both_orders_of_channels() {
    let folder = Folder::new();
    let model = model(&folder);
    let selftest = |order: &str| {
        assert_cmd::Command::new(env!("CARGO_BIN_EXE_vqlc"))
            .env("VQLC_CHANNELS", order)
            .args(args![
                "selftest",
                "--model",
                model,
                "--reference",
                reference()
            ])
            .output()
            .unwrap()
    };
    for order in ["first", "last"] {
        let run = selftest(order);
        let out = String::from_utf8(run.stdout).unwrap();
        assert_eq!(run.status.code(), Some(0), "{order}: {out}");
        for network in ["vqgan", "ldm", "lpips", "discriminator"] {
            let passed = |line: &str| line.starts_with("ok ") && line.contains(network);
            assert!(out.lines().any(passed), "{order}, {network}: {out}");
        }
    }
    // So the variable is read.
    let run = selftest("middle");
    assert_eq!(run.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(run.stderr).unwrap(),
        "vqlc: device cpu: VQLC_CHANNELS is \"middle\": expected first or last\n"
    );
}

#[test]
fn every_check_passes_here() {
    let folder = Folder::new();
    let run = vqlc(args![
        "selftest",
        "--model",
        model(&folder),
        "--reference",
        reference()
    ])
    .code(0);
    for check in [
        "bit packing",
        "nearest entry",
        "convolution",
        "attention",
        "token file",
        "ids, any batch",
        "reference out.ids",
        "reference out.recon",
        "reference gpt.safetensors, training",
        "reference dit.safetensors, training",
        "reference vit.safetensors, training",
        "reference ldm.safetensors, training",
        "reference vqgan.safetensors, training",
    ] {
        assert!(
            run.out
                .lines()
                .any(|line| line.starts_with("ok ") && line.contains(check)),
            "{check}: {run:?}"
        );
    }
    assert!(
        run.out
            .lines()
            .last()
            .unwrap()
            .ends_with(" passed, 0 failed"),
        "{run:?}"
    );
    let json = vqlc(args![
        "selftest",
        "--json",
        "--model",
        folder.path("model.safetensors")
    ])
    .code(0)
    .json();
    assert_eq!(
        (&json["ok"], json["checks"].as_array().unwrap().len()),
        (&true.into(), 6)
    );
}

#[test]
fn a_result_out_of_tolerance_fails() {
    let folder = Folder::new();
    std::fs::copy(
        reference().join("vqgan.safetensors"),
        folder.path("vqgan.safetensors"),
    )
    .unwrap();
    let tolerances = std::fs::read(reference().join("tolerances.json")).unwrap();
    let mut tolerances: serde_json::Value = serde_json::from_slice(&tolerances).unwrap();
    tolerances["vqgan.safetensors"]["out.recon"]["rel"] = 1e-12.into();
    std::fs::write(folder.path("tolerances.json"), tolerances.to_string()).unwrap();
    let run = vqlc(args![
        "selftest",
        "-q",
        "--model",
        model(&folder),
        "--reference",
        folder.path("")
    ])
    .code(1);
    let lines: Vec<&str> = run.out.lines().collect();
    assert!(
        lines.len() == 2
            && lines[0].starts_with("FAILED reference out.recon: error")
            && lines[1].ends_with("1 failed"),
        "{run:?}"
    );
}

#[test]
fn what_cannot_be_used_is_an_error() {
    let folder = Folder::new();
    let model = model(&folder);
    vqlc(args![
        "selftest",
        "--model",
        folder.path("none.safetensors")
    ])
    .code(1);
    vqlc(args![
        "selftest",
        "--model",
        model,
        "--reference",
        folder.path("none")
    ])
    .code(1);
    if cfg!(not(feature = "cuda")) {
        let run = vqlc(args!["selftest", "--model", model, "--device", "cuda"]).code(1);
        assert!(run.err.contains("built without CUDA"), "{run:?}");
    }
    vqlc(args!["selftest", "--device", "gpu"]).code(1);
}

#[test]
fn bench_measures_what_is_asked() {
    let folder = Folder::new();
    let model = model(&folder);
    let common = args![
        "bench",
        "--json",
        "--seconds",
        "0",
        "--threads",
        "1",
        "--model",
        model,
        "--size",
        "32",
        "--batch",
        "2"
    ];
    let json = vqlc(common).code(0).json();
    let results = json["results"].as_array().unwrap();
    let names: Vec<&str> = results
        .iter()
        .map(|result| result["what"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "encode", "decode", "nearest", "unpack", "gather", "loader", "validate", "assign"
        ]
    );
    let units: Vec<&str> = results
        .iter()
        .map(|result| result["unit"].as_str().unwrap())
        .collect();
    assert_eq!(
        units,
        [
            "pictures", "pictures", "queries", "ids", "records", "records", "bytes", "points"
        ]
    );
    for result in results {
        let (best, median) = (
            result["best"].as_f64().unwrap(),
            result["median"].as_f64().unwrap(),
        );
        assert!(
            best >= median && median > 0.0 && result["runs"].as_u64().unwrap() >= 1,
            "{result}"
        );
    }
    assert_eq!(json["threads"], 1);

    let run = vqlc([
        "bench",
        "--seconds",
        "0",
        "--ch",
        "4",
        "--size",
        "32",
        "--batch",
        "1",
        "--only",
        "decode,encode",
    ])
    .code(0);
    assert!(
        run.out.lines().count() == 2
            && run.out.contains("pictures/s")
            && run.out.contains("random weights, ch 4"),
        "{run:?}"
    );
    assert!(
        vqlc(["bench", "--only", "encode", "--size", "100"])
            .code(1)
            .err
            .contains("multiple")
    );
    vqlc(["bench", "--only", "everything"]).code(1);
}

/// Also at widths that 32 groups do not divide.
#[test]
fn bench_measures_training_steps() {
    let json = vqlc([
        "bench",
        "--json",
        "--only",
        "train",
        "--ch",
        "4",
        "--size",
        "32",
        "--batch",
        "1",
        "--codes",
        "16",
        "--seconds",
        "0",
    ])
    .code(0)
    .json();
    let result = &json["results"][0];
    assert_eq!(result["what"], "train");
    assert!(result["best"].as_f64().unwrap() > 0.0, "{result}");
}

#[test]
fn bench_measures_sampling() {
    let json = vqlc(args![
        "bench",
        "--json",
        "--only",
        "sample,resample",
        "--codes",
        "50",
        "--batch",
        "1",
        "--seconds",
        "0"
    ])
    .code(0)
    .json();
    let results = json["results"].as_array().unwrap();
    let names: Vec<&str> = (results.iter())
        .map(|result| result["what"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["sample", "resample"]);
    assert!(
        results
            .iter()
            .all(|result| result["best"].as_f64() > Some(0.0))
    );
}
