//! `vqlc model info`, `convert` and `fold`.

mod common;

use std::{collections::HashMap, path::Path};

use common::{Folder, tiny_model, vqlc};
use safetensors::{Dtype, tensor::TensorView};
use vqlc_model::{
    file::{CODEBOOK, PROJECTOR, SOURCE},
    rng::Rng,
};

/// The tiny model's network as published weights: no projected table, but a static codebook and a projector.
fn published(path: &Path, change: impl FnOnce(&mut HashMap<String, (Vec<usize>, Vec<f32>)>)) {
    let model = tiny_model(1);
    let config = model.config();
    let mut tensors: HashMap<String, (Vec<usize>, Vec<f32>)> = model
        .tensors()
        .iter()
        .filter(|(name, _)| name.as_str() != CODEBOOK)
        .map(|(name, tensor)| {
            (
                name.clone(),
                (
                    tensor.dims().to_vec(),
                    tensor.flatten_all().unwrap().to_vec1().unwrap(),
                ),
            )
        })
        .collect();
    let mut rng = Rng::new(2);
    let mut normal = |shape: &[usize]| {
        (
            shape.to_vec(),
            (0..shape.iter().product())
                .map(|_| rng.normal() as f32)
                .collect(),
        )
    };
    tensors.insert(SOURCE.into(), normal(&[config.n_codes, config.code_dim]));
    tensors.insert(
        PROJECTOR[0].into(),
        normal(&[config.embed_dim, config.code_dim]),
    );
    tensors.insert(PROJECTOR[1].into(), normal(&[config.embed_dim]));
    change(&mut tensors);
    let bytes: HashMap<String, (Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, (shape, values))| {
            (
                name,
                (shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            )
        })
        .collect();
    let views = bytes.iter().map(|(name, (shape, data))| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), data).unwrap(),
        )
    });
    let meta = HashMap::from([("config".to_owned(), serde_json::to_string(config).unwrap())]);
    std::fs::write(path, safetensors::serialize(views, Some(meta)).unwrap()).unwrap();
}

#[test]
fn the_embedded_model_is_described() {
    let run = vqlc(["model", "info"]).code(0);
    assert!(
        run.out.contains("embedded in this program")
            && run.out.contains("100,000 in the codebook, of 8 numbers"),
        "{run:?}"
    );
    let json = vqlc(["model", "info", "--json"]).code(0).json();
    assert_eq!(
        (&json["factor"], &json["folded"], &json["config"]["n_codes"]),
        (&16.into(), &true.into(), &100_000.into())
    );
    assert_eq!(json["digests"]["codebook"].as_str().unwrap().len(), 64);
}

#[test]
fn published_weights_become_a_model_and_then_a_small_one() {
    let folder = Folder::new();
    let (weights, model, small) = (
        folder.path("weights.safetensors"),
        folder.path("model.safetensors"),
        folder.path("small.safetensors"),
    );
    published(&weights, |_| {});
    let run = vqlc(args!["model", "info", weights]).code(1);
    assert!(run.err.contains("vqlc model convert"), "{run:?}");

    vqlc(args!["model", "convert", weights, model]).code(0);
    vqlc(args!["model", "fold", model, small]).code(0);
    let [before, after] =
        [&model, &small].map(|path| vqlc(args!["model", "info", "--json", path]).code(0).json());
    assert_eq!(
        (&before["folded"], &after["folded"]),
        (&false.into(), &true.into())
    );
    assert_eq!(before["digests"], after["digests"]);
    assert_ne!(after["digests"]["source"], "0".repeat(64));
    assert!(
        after["provenance"]
            .as_str()
            .unwrap()
            .contains("weights.safetensors"),
        "{after}"
    );
    assert!(small.metadata().unwrap().len() + 60_000 < model.metadata().unwrap().len());

    let run = vqlc(args!["model", "convert", model, folder.path("again")]).code(1);
    assert!(run.err.contains("a vqlc model file already"), "{run:?}");

    let half = folder.path("half.safetensors");
    let json = vqlc(args!["model", "convert", "--half", "--json", weights, half])
        .code(0)
        .json();
    assert_ne!(json["digests"]["encoder"], before["digests"]["encoder"]);
    assert_eq!(json["digests"]["source"], before["digests"]["source"]);
    assert_eq!(
        folder.listing(),
        [
            "half.safetensors",
            "model.safetensors",
            "small.safetensors",
            "weights.safetensors"
        ]
    );
}

#[test]
fn wrong_weights_are_named() {
    let folder = Folder::new();
    let (weights, out) = (
        folder.path("weights.safetensors"),
        folder.path("model.safetensors"),
    );
    published(&weights, |tensors| {
        drop(tensors.remove("encoder.conv_in.bias"))
    });
    assert!(
        vqlc(args!["model", "convert", weights, out])
            .code(1)
            .err
            .contains("encoder.conv_in.bias")
    );
    published(&weights, |tensors| {
        drop(tensors.insert("encoder.more".into(), (vec![1], vec![0.0])))
    });
    assert!(
        vqlc(args!["model", "convert", weights, out])
            .code(1)
            .err
            .contains("encoder.more")
    );
    published(&weights, |tensors| {
        drop(tensors.insert("quant_conv.bias".into(), (vec![1], vec![0.0])))
    });
    assert!(
        vqlc(args!["model", "convert", weights, out])
            .code(1)
            .err
            .contains("quant_conv.bias")
    );
    std::fs::write(folder.path("weights.pth"), "no checkpoint").unwrap();
    vqlc(args!["model", "convert", folder.path("weights.pth"), out]).code(1);
    vqlc(args!["model", "info", folder.path("none.safetensors")]).code(1);
    assert!(!out.exists());

    // What only training needs is left out, and said.
    published(&weights, |tensors| {
        drop(tensors.insert("discriminator.x".into(), (vec![1], vec![0.0])))
    });
    let run = vqlc(args!["model", "convert", "-v", weights, out]).code(0);
    assert!(
        run.err.contains("left out 1 tensor") && run.err.contains("discriminator.x"),
        "{run:?}"
    );
}

#[test]
fn damage_and_overwriting_are_refused() {
    let folder = Folder::new();
    let (model, out) = (
        folder.path("model.safetensors"),
        folder.path("out.safetensors"),
    );
    tiny_model(1).write(&model).unwrap();
    vqlc(args!["model", "fold", model, out]).code(0);
    let run = vqlc(args!["model", "fold", model, out]).code(1);
    assert!(run.err.contains("exists already"), "{run:?}");
    vqlc(args!["model", "fold", "--force", model, out]).code(0);
    let mut bytes = std::fs::read(&model).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&model, bytes).unwrap();
    let run = vqlc(args!["model", "info", model]).code(1);
    assert!(
        run.err.contains("digest") && run.err.contains("damaged"),
        "{run:?}"
    );
}

#[test]
fn the_embedded_model_shows_its_card() {
    let said = vqlc(args!["model", "info"]).code(0).out;
    let card = std::fs::read_to_string("assets/MODEL_CARD.md").unwrap();
    assert!(said.ends_with(&card), "{said}");
    let json = vqlc(args!["model", "info", "--json"]).code(0).json();
    assert_eq!(json["card"], card);
}
