//! `vqlc train`: a run on the repository's own pictures, stopped, killed, gone on with, and used.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The repository's own.
fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pictures")
}

fn vqlc() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vqlc"))
}

/// A run of a few small steps with everything on: autoencoder, alignment, accumulation, average, adversary.
fn train(out: &Path, more: &[&str]) -> Command {
    let mut command = vqlc();
    command
        .args(["train", "tokenizer", "--preset", "tiny", "--images"])
        .arg(pictures())
        .arg("--out")
        .arg(out);
    for set in [
        "run.steps=8",
        "run.batch=2",
        "run.accumulate=2",
        "data.size=32",
        "data.eval_size=32",
        "model.n_codes=64",
        "model.code_dim=16",
        "warm_start.steps=3",
        "warm_start.latents=64",
        "loss.gan=0.1",
        "discriminator.start=4",
        "discriminator.generator_start=5",
        "discriminator.channels=4",
        "checkpoint.every=2",
        "checkpoint.keep=9",
        "watch.log_every=1",
        "watch.grid_every=4",
        "watch.usage_tokens_per_code=1",
    ] {
        command.args(["--set", set]);
    }
    command.args(more);
    command
}

fn ok(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{command:?}: {stderr}");
    String::from_utf8(out.stdout).unwrap()
}

fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join(format!("checkpoints/step-{step:09}.safetensors"))
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits_and_its_model_compresses() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let printed = ok(train(&whole, &["--json"]).args(["--threads", "1"]));
    let summary: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(summary["steps"], 8);
    assert!(summary["usage"]["crops"]["tokens"].as_u64().unwrap() >= 64);

    let mut child = train(&killed, &[])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !checkpoint(&killed, 4).exists() {
        assert!(start.elapsed() < Duration::from_secs(300), "no checkpoint");
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Also from further back, over a checkpoint that was cut short.
    for step in [6, 8] {
        let _ = fs::remove_file(checkpoint(&killed, step));
    }
    fs::write(checkpoint(&killed, 6), b"cut").unwrap();
    ok(vqlc()
        .args(["train", "tokenizer", "--resume", "--out"])
        .arg(&killed));
    for file in [
        "checkpoints/step-000000008.safetensors",
        "model.safetensors",
    ] {
        assert_eq!(
            fs::read(whole.join(file)).unwrap(),
            fs::read(killed.join(file)).unwrap(),
            "{file}"
        );
    }
    let losses = |run: &Path| -> Vec<(u64, f64)> {
        fs::read_to_string(run.join("metrics.jsonl"))
            .unwrap()
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                (
                    line["step"].as_u64().unwrap(),
                    line["loss"].as_f64().unwrap(),
                )
            })
            .collect()
    };
    assert_eq!(losses(&whole), losses(&killed));
    assert_eq!(losses(&whole).len(), 8);
    assert!(whole.join("grids/step-000000004.png").exists());
    // What the run counted at its end, counted again from its model alone.
    let counts = dir.path().join("counts.safetensors");
    let printed = ok(vqlc()
        .args([
            "train",
            "usage",
            "--json",
            "--size",
            "32",
            "--max-scale",
            "2",
        ])
        .args(["--tokens-per-code", "1", "--model"])
        .arg(whole.join("model.safetensors"))
        .arg("--counts")
        .arg(&counts)
        .arg(pictures()));
    let usage: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(usage["codes"], 64);
    for way in ["plain", "crops"] {
        assert_eq!(usage[way], summary["usage"][way], "{way}");
    }
    assert_eq!(
        fs::read(whole.join("usage.safetensors")).unwrap(),
        fs::read(counts).unwrap()
    );

    let tokens = dir.path().join("out.vqt");
    ok(vqlc()
        .args(["compress", "--size", "32", "--model"])
        .arg(whole.join("model.safetensors"))
        .arg(pictures())
        .arg(&tokens));
    ok(vqlc()
        .args(["decompress", "--model"])
        .arg(whole.join("model.safetensors"))
        .arg(&tokens)
        .arg(dir.path().join("back")));
}

/// The same command with `--resume` is the same run, wherever its paths are counted from.
#[test]
fn relative_paths_name_the_same_run_when_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let pictures_here = dir.path().join("pictures/birds");
    fs::create_dir_all(&pictures_here).unwrap();
    for entry in fs::read_dir(pictures().join("birds")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, pictures_here.join(path.file_name().unwrap())).unwrap();
    }
    let run = |more: &[&str]| {
        let mut command = vqlc();
        command
            .current_dir(dir.path())
            .args(["train", "tokenizer", "--preset", "tiny"])
            .args(["--images", "pictures", "--out", "run"])
            .args(["--set", "run.steps=2", "--set", "data.size=32"])
            .args(["--set", "data.eval_size=32", "--set", "model.n_codes=16"])
            .args(["--set", "watch.usage_tokens_per_code=1"])
            .args(more);
        ok(&mut command)
    };
    run(&[]);
    run(&["--resume"]);
}

#[test]
fn the_loss_falls_for_every_quantizer() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["lc", "vq", "fc", "ema"] {
        let out = dir.path().join(kind);
        let set = format!("quantizer.kind={kind}");
        let more = [
            "--set",
            &set,
            "--set",
            "loss.gan=0",
            "--set",
            "run.steps=40",
        ];
        ok(train(&out, &more).args(["--set", "optimizer.lr=3e-3"]));
        let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let l1: Vec<f64> = text
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                line["l1"].as_f64().unwrap()
            })
            .collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (first, last) = (mean(&l1[..5]), mean(&l1[35..]));
        assert!(last < 0.9 * first, "{kind}: {first} to {last}");
        assert_eq!(out.join("model.safetensors").exists(), kind != "fc");
    }
}

/// Four pictures make the same step at once and in two halves: gradients are their mean. (What looks at a batch as a whole is off: the
/// adversary's normalisation, and the quantizer's loss beside the spread of the latents.)
#[test]
fn accumulated_gradients_are_those_of_the_whole_batch() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, halves] = [("4", "1"), ("2", "2")].map(|(batch, accumulate)| {
        let out = dir.path().join(batch);
        let (batch, accumulate) = (
            format!("run.batch={batch}"),
            format!("run.accumulate={accumulate}"),
        );
        let sets = [
            batch.as_str(),
            accumulate.as_str(),
            "quantizer.kind=vq",
            "loss.quantizer_relative=false",
            "loss.gan=0",
            "run.steps=3",
            "warm_start.steps=0",
        ];
        let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        ok(&mut train(&out, &more));
        let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let lines = text.lines();
        let steps = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        steps.collect::<Vec<_>>()
    });
    assert_eq!((whole.len(), halves.len()), (3, 3));
    for (whole, halves) in whole.iter().zip(&halves) {
        for value in ["loss", "l1", "quantizer", "gradient_norm"] {
            let [a, b] = [whole, halves].map(|step| step[value].as_f64().unwrap());
            assert!(a > 0.0 && (a - b).abs() < 1e-3 * a, "{value}: {a} and {b}");
        }
    }
}

/// Without a projector, with a codebook that is trained too, and in another dimension: each trains, and its model can be used.
#[test]
fn the_lc_quantizer_has_options() {
    let dir = tempfile::tempdir().unwrap();
    for (name, sets) in [
        ("bare", ["quantizer.projector=false", "model.code_dim=8"]),
        (
            "trained",
            ["quantizer.codebook_trainable=true", "loss.gan=0"],
        ),
        ("wide", ["model.embed_dim=16", "loss.gan=0"]),
    ] {
        let out = dir.path().join(name);
        let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        ok(&mut train(&out, &more));
        let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(line["quantizer"].as_f64().unwrap() > 0.0, "{name}: {line}");
        ok(vqlc()
            .args(["compress", "--size", "32", "--model"])
            .arg(out.join("model.safetensors"))
            .arg(pictures())
            .arg(dir.path().join(format!("{name}.vqt"))));
    }
}

#[test]
fn wrong_use_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let refused = |command: &mut Command, words: &[&str]| {
        let out = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{word:?} is not in {stderr}");
        }
    };
    refused(&mut train(&out, &["--set", "run.stepz=1"]), &["stepz"]);
    refused(
        vqlc().args(["train", "tokenizer", "--out"]).arg(&out),
        &["--preset"],
    );
    refused(
        vqlc()
            .args(["train", "tokenizer", "--resume", "--out"])
            .arg(&out),
        &["no run to go on with"],
    );
    refused(
        vqlc()
            .args(["train", "tokenizer", "--preset", "tiny", "--out"])
            .arg(&out),
        &["data.images"],
    );
    refused(
        vqlc()
            .args(["train", "tokenizer", "--preset", "tiny", "--images"])
            .arg(dir.path())
            .arg("--out")
            .arg(&out),
        &["picture"],
    );
    ok(&mut train(&out, &[]));
    refused(&mut train(&out, &[]), &["--resume"]);
    refused(
        &mut train(
            &out,
            &["--resume", "--set", "run.seed=1", "--set", "model.ch=16"],
        ),
        &["vqlc:"],
    );
    // The refusal changed nothing: the run can still be gone on with.
    ok(vqlc()
        .args(["train", "tokenizer", "--resume", "--out"])
        .arg(&out));
    // A run that blows up stops, and says at which step.
    let wild = dir.path().join("wild");
    let more = ["--set", "optimizer.lr=1e30", "--set", "optimizer.clip=0"];
    refused(&mut train(&wild, &more), &["diverged", "start anew"]);
    assert!(!checkpoint(&wild, 2).exists());
}

#[test]
fn presets_are_printed_and_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["paper-f16", "paper-f8", "small", "tiny"] {
        let text = ok(vqlc().args(["train", "tokenizer", "--print-config", name]));
        assert!(text.contains("[quantizer]"));
        fs::write(dir.path().join("config.toml"), text).unwrap();
    }
    let out = dir.path().join("run");
    let images = pictures();
    let mut command = vqlc();
    command
        .args(["train", "tokenizer", "--config"])
        .arg(dir.path().join("config.toml"))
        .args(["--set", "run.steps=1", "--set", "data.size=32", "--images"])
        .arg(images)
        .args([
            "--set",
            "data.eval_size=32",
            "--set",
            "model.n_codes=16",
            "--out",
        ])
        .arg(out);
    ok(&mut command);
}
