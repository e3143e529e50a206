//! `vqlc train gpt|vit|dit|sit|ldm`, `sample` and `eval` on the repository's own pictures: runs that are killed and gone on with, samples
//! that are token files, and what does not belong together.

#[macro_use]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Run, vqlc};
use vqlc_format::TokenFile;

const KINDS: [&str; 5] = ["gpt", "vit", "dit", "sit", "ldm"];

/// A folder with `tokens.vqt`: 64-pixel crops of the repository's pictures and their mirror images, 4 x 4 ids each, five classes.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.compress("tokens.vqt", "flip", &pictures());
        place
    }

    fn compress(&self, name: &str, views: &str, pictures: &Path) {
        let how = ["compress", "-q", "--size", "64", "--views", views];
        vqlc(
            how.map(Into::into)
                .into_iter()
                .chain(args![pictures, self.path(name)]),
        )
        .code(0);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The start of a small run of `kind` in the folder `out`.
    fn train(&self, kind: &str, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vqlc"));
        command
            .args(["train", kind, "--preset", "tiny", "--out"])
            .arg(self.path(out));
        let mut sets = vec![
            "run.steps=6",
            "run.batch=2",
            "checkpoint.every=2",
            "checkpoint.keep=9",
            "watch.log_every=1",
            "watch.val_every=3",
            "watch.grid_every=4",
            "watch.grid_pictures=3",
        ];
        sets.extend(match kind {
            "gpt" => ["model.width=8", "model.layers=1", "model.heads=2"].as_slice(),
            "ldm" => &["model.base=8", "model.groups=4", "model.sampling_steps=3"],
            "vit" => &["model.width=8", "model.layers=2"],
            _ => &["model.width=16", "model.layers=2", "model.sampling_steps=3"],
        });
        for set in sets {
            command.args(["--set", set]);
        }
        command.args(more);
        command
    }

    fn run(&self, command: &mut Command) -> Run {
        let out = command.output().unwrap();
        Run {
            code: out.status.code().unwrap(),
            out: String::from_utf8(out.stdout).unwrap(),
            err: String::from_utf8(out.stderr).unwrap(),
        }
    }

    /// A finished run of `kind` on `tokens.vqt`, its network's file.
    fn trained(&self, kind: &str) -> PathBuf {
        let mut command = self.train(kind, kind, &[]);
        command.arg(self.path("tokens.vqt"));
        self.run(&mut command).code(0);
        self.path(kind).join(format!("{kind}.safetensors"))
    }
}

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pictures")
}

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
fn samples_are_token_files_that_decode() {
    let place = Place::new();
    for kind in ["gpt", "dit", "sit", "ldm"] {
        let network = place.trained(kind);
        let out = place.path(&format!("{kind}.vqt"));
        let (folder, sheet) = (
            place.path(&format!("{kind}-png")),
            place.path(&format!("{kind}.png")),
        );
        let run = vqlc(args![
            "sample",
            kind,
            network,
            out,
            "--count",
            "7",
            "--batch",
            "3",
            "--json",
            "--decode",
            folder,
            "--sheet",
            sheet,
            "--guidance",
            "2",
        ])
        .code(0);
        assert_eq!(run.json()["tokens"], 7 * 16, "{kind}");
        vqlc(args!["validate", "--default-model", out]).code(0);
        let file = TokenFile::open(&out).unwrap();
        assert_eq!(file.pictures(), 7);
        let labels: Vec<_> = (0..7).map(|p| file.label(p).unwrap()).collect();
        assert_eq!(labels, [0, 1, 2, 3, 4, 0, 1].map(Some));
        assert!(folder.join("birds/000005.png").exists() && sheet.exists());
        let back = place.path(&format!("{kind}-back"));
        vqlc(args!["decompress", "-q", out, back]).code(0);
        let [a, b] = [&folder, &back].map(|f| fs::read(f.join("fruit/000002.png")).unwrap());
        assert_eq!(a, b, "{kind}");
        // Pictures that are in the way are told before anything is sampled.
        let other = place.path("other.vqt");
        let refused = vqlc(args!["sample", kind, network, other, "--decode", folder]).code(1);
        assert!(refused.err.contains("000000.png"), "{}", refused.err);
        assert!(!other.exists());
        // It is not written over unasked, another seed gives others, and a class can be asked for.
        let refused = vqlc(args!["sample", kind, network, out]).code(1);
        assert!(refused.err.contains("--force"), "{}", refused.err);
        let again = vqlc(args![
            "sample", kind, network, out, "--force", "--seed", "1", "--class", "fruit", "--count",
            "1"
        ]);
        again.code(0);
        let other = TokenFile::open(&out).unwrap();
        assert_eq!(other.label(0).unwrap(), Some(2));
        let unknown = vqlc(args![
            "sample", kind, network, out, "--force", "--class", "cars"
        ])
        .code(1);
        assert!(unknown.err.contains("insects"), "{}", unknown.err);
    }
}

#[test]
fn a_vit_is_measured() {
    let place = Place::new();
    let network = place.trained("vit");
    let found = vqlc(args![
        "eval",
        "vit",
        "--json",
        network,
        place.path("tokens.vqt")
    ]);
    let found = found.code(0).json();
    assert_eq!(found["pictures"], 8);
    assert_eq!(found["top5"], 1.0, "there are five classes");
    assert!((0.0..=1.0).contains(&found["top1"].as_f64().unwrap()));
    // Without classes there is nothing to tell.
    place.compress("birds.vqt", "center", &pictures().join("birds"));
    let mut command = place.train("vit", "none", &[]);
    let refused = place.run(command.arg(place.path("birds.vqt"))).code(1);
    assert!(refused.err.contains("classes"), "{}", refused.err);
    let other = vqlc(args!["eval", "vit", network, place.path("birds.vqt")]).code(1);
    assert!(other.err.contains("classes"), "{}", other.err);
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

/// Every way to sample, and networks that know no classes.
#[test]
fn networks_without_classes_sample_in_every_way() {
    let place = Place::new();
    let out = place.path("out.vqt");
    let gpt = ["--top-k=5", "--top-p=0.9", "--temperature=0.5"];
    for (kind, ways) in [
        ("gpt", [&gpt[..], &["--temperature=0"]]),
        ("dit", [&["--sampler=ddpm", "--steps=7"], &["--eta=0.5"]]),
        (
            "sit",
            [&["--sampler=euler"], &["--sampler=heun", "--steps=2"]],
        ),
        ("ldm", [&["--sampler=ddim"], &["--sampler=ddpm"]]),
    ] {
        let mut command = place.train(kind, kind, &["--set=data.labels=false"]);
        place.run(command.arg(place.path("tokens.vqt"))).code(0);
        let network = place.path(kind).join(format!("{kind}.safetensors"));
        for way in ways {
            let run = args!["sample", kind, network, out, "--force", "--count=3"];
            vqlc(run.into_iter().chain(way.iter().map(Into::into))).code(0);
            let file = TokenFile::open(&out).unwrap();
            assert_eq!(
                (file.pictures(), file.classes()),
                (3, None),
                "{kind} {way:?}"
            );
        }
        fs::remove_file(&out).unwrap();
        let wrong = if kind == "gpt" {
            "--top-p=2"
        } else {
            "--eta=2"
        };
        let refused = vqlc(args!["sample", kind, network, out, wrong]).code(1);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
        assert!(!out.exists());
    }
    let network = place.path("sit/sit.safetensors");
    let refused = vqlc(args!["sample", "sit", network, out, "--sampler=ddim"]).code(1);
    assert!(refused.err.contains("heun or euler"), "{}", refused.err);
    // One picture without a class among others: a vit cannot learn from it, the rest can.
    fs::create_dir(place.path("some")).unwrap();
    fs::create_dir(place.path("some/birds")).unwrap();
    let picture = pictures().join("birds/penguin.png");
    for name in [
        "some/a.png",
        "some/birds/b.png",
        "some/birds/c.png",
        "some/birds/d.png",
    ] {
        fs::copy(&picture, place.path(name)).unwrap();
    }
    place.compress("some.vqt", "center", &place.path("some"));
    for (kind, code) in [("gpt", 0), ("sit", 0), ("vit", 1)] {
        let mut command = place.train(kind, &format!("some-{kind}"), &[]);
        let run = place.run(command.arg(place.path("some.vqt"))).code(code);
        assert!(code == 0 || run.err.contains("no class"), "{}", run.err);
    }
    let more = ["--set=data.size=64", "--images"];
    let mut command = place.train("sit", "some-z", &more);
    place.run(command.arg(place.path("some"))).code(0);
    let out = place.path("some-z.vqt");
    vqlc(args![
        "sample",
        "sit",
        place.path("some-z/sit.safetensors"),
        out
    ])
    .code(0);
    let file = TokenFile::open(&out).unwrap();
    assert_eq!(file.classes(), Some(&[b"birds".to_vec()][..]));
}
