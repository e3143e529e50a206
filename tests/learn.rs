//! `vqlc train gpt|vit|dit|sit|ldm` on the repository's own pictures: runs that are killed and gone on with, and what does not belong
//! together.

#[macro_use]
mod common;
mod learning;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use common::vqlc;
use learning::{Place, pictures};
use vqlc_format::TokenFile;

const KINDS: [&str; 5] = ["gpt", "vit", "dit", "sit", "ldm"];

fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join(format!("checkpoints/step-{step:09}.safetensors"))
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let place = Place::new();
    let tokens = place.path("tokens.vqt");
    for kind in KINDS {
        let whole = place.trained(kind);
        let whole = whole.parent().unwrap();
        let killed = place.path("killed").join(kind);
        let mut child = place
            .train(kind, killed.to_str().unwrap(), &[])
            .arg(&tokens)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while !checkpoint(&killed, 2).exists() && child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(300), "no checkpoint");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // From a place within an epoch (8 pictures, 4 a step), over a checkpoint that was cut short.
        for step in [4, 6] {
            let _ = fs::remove_file(checkpoint(&killed, step));
        }
        fs::write(checkpoint(&killed, 4), b"cut").unwrap();
        vqlc(args!["train", kind, "--resume", "--out", killed]).code(0);
        for file in [
            "checkpoints/step-000000006.safetensors".to_owned(),
            format!("{kind}.safetensors"),
        ] {
            let [a, b] = [whole, &killed].map(|run| fs::read(run.join(&file)).unwrap());
            assert_eq!(a, b, "{kind}: {file}");
        }
        let losses = |run: &Path| -> Vec<f64> {
            let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
            let lines = text
                .lines()
                .map(|line| -> serde_json::Value { serde_json::from_str(line).unwrap() });
            lines.map(|line| line["loss"].as_f64().unwrap()).collect()
        };
        assert_eq!(losses(whole), losses(&killed), "{kind}");
        assert_eq!(losses(whole).len(), 6);
        let grid = whole.join("grids/step-000000004.png");
        assert_eq!(grid.exists(), kind != "vit", "{kind}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let place = Place::new();
    let network = place.trained("gpt");
    let out = place.path("out.vqt");
    let wrong_kind = vqlc(args!["sample", "dit", network, out]).code(1);
    assert!(
        wrong_kind.err.contains("vqlc sample gpt"),
        "{}",
        wrong_kind.err
    );
    // Another tokenizer.
    let model = place.path("other.safetensors");
    common::tiny_model(7).write(&model).unwrap();
    vqlc(args!["sample", "gpt", network, out, "--model", model]).code(5);
    let mut command = place.train("gpt", "other", &["--model"]);
    place
        .run(command.arg(&model).arg(place.path("tokens.vqt")))
        .code(5);
    let no_network = vqlc(args!["sample", "gpt", place.path("tokens.vqt"), out]).code(1);
    assert!(
        no_network.err.contains("not a network file"),
        "{}",
        no_network.err
    );
    // A damaged network.
    let mut bytes = fs::read(&network).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let damaged = place.path("damaged.safetensors");
    fs::write(&damaged, bytes).unwrap();
    let refused = vqlc(args!["sample", "gpt", damaged, out]).code(1);
    assert!(refused.err.contains("damaged"), "{}", refused.err);
    assert!(!out.exists());
    // A run goes on with the token files it began with, told by their content: the same pictures and classes, other ids.
    place.compress("center.vqt", "center", &pictures());
    fs::rename(place.path("center.vqt"), place.path("tokens.vqt")).unwrap();
    let more = args![
        "train",
        "gpt",
        "--resume",
        "--set=run.steps=8",
        "--out",
        place.path("gpt")
    ];
    let refused = vqlc(more).code(1);
    assert!(refused.err.contains("its contents are"), "{}", refused.err);
    assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    // A cut token file.
    let whole = fs::read(place.path("tokens.vqt")).unwrap();
    fs::write(place.path("cut.vqt"), &whole[..whole.len() - 40]).unwrap();
    let mut command = place.train("gpt", "cut", &[]);
    let refused = place.run(command.arg(place.path("cut.vqt"))).code(4);
    assert_eq!(
        refused.err.matches("file length").count(),
        1,
        "{}",
        refused.err
    );
    // A configuration of another kind, a preset that is none, a key that is none.
    for (more, word) in [
        (
            args![
                "train",
                "gpt",
                "--config",
                place.path("sit.toml"),
                "--out",
                place.path("x")
            ]
            .to_vec(),
            "sit",
        ),
        (
            args![
                "train",
                "gpt",
                "--preset",
                "huge",
                "--out",
                place.path("x"),
                "a.vqt"
            ]
            .to_vec(),
            "tiny, paper",
        ),
        (
            args![
                "train",
                "gpt",
                "--preset",
                "tiny",
                "--out",
                place.path("x"),
                "--set=model.hads=2"
            ]
            .to_vec(),
            "hads",
        ),
    ] {
        let config = vqlc(["train", "sit", "--print-config", "tiny"]).code(0).out;
        fs::write(place.path("sit.toml"), config).unwrap();
        let refused = vqlc(more).code(1);
        assert!(refused.err.contains(word), "{word}: {}", refused.err);
    }
}

#[test]
fn latents_of_pictures_are_learned_too() {
    let place = Place::new();
    let mut command = place.train("sit", "z", &["--set", "data.size=64", "--images"]);
    place.run(command.arg(pictures())).code(0);
    let out = place.path("z.vqt");
    vqlc(args![
        "sample",
        "sit",
        place.path("z/sit.safetensors"),
        out,
        "--count",
        "5"
    ])
    .code(0);
    let file = TokenFile::open(&out).unwrap();
    assert_eq!((file.pictures(), file.label(4).unwrap()), (5, Some(4)));
    // Its run can go on, also from a place within, to the same bits; ids alone are no pictures.
    let bits = |run: &str| fs::read(checkpoint(&place.path(run), 6)).unwrap();
    let before = bits("z");
    for step in [4, 6] {
        fs::remove_file(checkpoint(&place.path("z"), step)).unwrap();
    }
    vqlc(args!["train", "sit", "--resume", "--out", place.path("z")]).code(0);
    assert_eq!(before, bits("z"));
    let resumed = vqlc(args![
        "train",
        "sit",
        "--resume",
        "--out",
        place.path("z"),
        "--set",
        "run.steps=7"
    ]);
    assert!(resumed.code(0).err.contains("going on from step 6"));
    let mut command = place.train("gpt", "gpt", &["--images"]);
    let refused = place.run(command.arg(pictures())).code(1);
    assert!(refused.err.contains("data.images"), "{}", refused.err);
}

#[test]
fn pretrained_weights_are_taken_up() {
    let place = Place::new();
    let weights = place.trained("vit");
    let weights = format!("model.weights={:?}", weights.to_str().unwrap());
    let mut command = place.train("vit", "again", &["--set", &weights]);
    let run = place.run(command.arg(place.path("tokens.vqt"))).code(0);
    assert!(run.err.contains("but for"), "{}", run.err);
    // What is handed on does not tell where its weights lay.
    let made = fs::read(place.path("again/vit.safetensors")).unwrap();
    let folder = place.path("vit");
    let folder = folder.to_str().unwrap().as_bytes();
    assert!(!made.windows(folder.len()).any(|part| part == folder));
    let thin = place.run(
        place
            .train(
                "vit",
                "thin",
                &["--set", &weights, "--set", "model.width=16"],
            )
            .arg(place.path("tokens.vqt")),
    );
    assert!(thin.code(1).err.contains("16"));
}

/// Four pictures make the same step at once and in two halves: gradients are their mean.
#[test]
fn parts_make_the_step_of_the_whole() {
    let place = Place::new();
    let lines = |out: &str, batch: &str, accumulate: &str| -> Vec<serde_json::Value> {
        let more = [
            "--set",
            batch,
            "--set",
            accumulate,
            "--set=model.class_dropout=0",
            "--set=run.steps=3",
        ];
        let mut command = place.train("gpt", out, &more);
        place.run(command.arg(place.path("tokens.vqt"))).code(0);
        let text = fs::read_to_string(place.path(out).join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    };
    let whole = lines("whole", "run.batch=4", "run.accumulate=1");
    let halves = lines("halves", "run.batch=2", "run.accumulate=2");
    for (whole, halves) in whole.iter().zip(&halves) {
        for value in ["loss", "gradient_norm"] {
            let [a, b] = [whole, halves].map(|step| step[value].as_f64().unwrap());
            assert!(a > 0.0 && (a - b).abs() < 1e-4 * a, "{value}: {a} and {b}");
        }
    }
}
