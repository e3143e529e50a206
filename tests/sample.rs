//! `vqlc sample` and `eval`: samples that are token files in every way they can be drawn, and what a classifier is worth.

#[macro_use]
mod common;
mod learning;

use std::fs;

use common::vqlc;
use learning::{Place, pictures};
use vqlc_format::TokenFile;

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
