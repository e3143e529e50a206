//! Model files: what is written comes back, and what is wrong is named.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use vqlc_model::{
    Error, Tokenizer, VqganConfig,
    convert::{ImportOptions, import},
    file::ModelFile,
    rng::Rng,
    tokenizer::random_model,
};

/// A published-style file: names as in checkpoints, no projected table, no digests.
fn published(
    change: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<f32>)>),
) -> tempfile::NamedTempFile {
    let config = VqganConfig::preset("tiny-f16").unwrap();
    let model = random_model(&config, 1).unwrap();
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = model
        .tensors()
        .iter()
        .filter(|(name, _)| *name != "codebook.weight")
        .map(|(name, t)| {
            (
                name.clone(),
                (
                    t.dims().to_vec(),
                    t.flatten_all().unwrap().to_vec1().unwrap(),
                ),
            )
        })
        .collect();
    let mut rng = Rng::new(2);
    for (name, shape) in [
        ("tok_embeddings.weight", vec![1000, 16]),
        ("codebook_projection.weight", vec![8, 16]),
        ("codebook_projection.bias", vec![8]),
    ] {
        let values = (0..shape.iter().product())
            .map(|_| rng.normal() as f32)
            .collect();
        tensors.insert(name.into(), (shape, values));
    }
    change(&mut tensors);
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, (shape, values))| {
            (
                name,
                shape,
                values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            )
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), data).unwrap(),
        )
    });
    let json = serde_json::to_string(&config).unwrap();
    let file = tempfile::Builder::new()
        .suffix(".safetensors")
        .tempfile()
        .unwrap();
    let meta = [("config".to_string(), json)].into_iter().collect();
    std::fs::write(
        file.path(),
        safetensors::serialize(views, Some(meta)).unwrap(),
    )
    .unwrap();
    file
}

fn import_changed(
    change: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<f32>)>),
) -> Result<ModelFile, Error> {
    import(published(change).path(), &ImportOptions::default()).map(|imported| imported.model)
}

#[test]
fn import_projects_the_codebook_and_folding_keeps_every_digest() {
    let model = import_changed(|_| {}).unwrap();
    let (weight, bias, book) = (
        &model.tensors()["codebook_projection.weight"],
        &model.tensors()["codebook_projection.bias"],
        &model.tensors()["tok_embeddings.weight"],
    );
    let expected = book
        .matmul(&weight.t().unwrap())
        .unwrap()
        .broadcast_add(bias)
        .unwrap();
    let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
    for (a, b) in model.codebook().unwrap().iter().zip(&expected) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }

    let bytes = model.to_bytes().unwrap();
    let read = ModelFile::from_bytes(&bytes).unwrap();
    assert_eq!(read.digests(), model.digests());
    assert_eq!(
        read.to_bytes().unwrap(),
        bytes,
        "the bytes are a function of the model"
    );
    let folded = read.fold();
    let small = folded.to_bytes().unwrap();
    assert!(folded.is_folded() && small.len() < bytes.len());
    assert_eq!(
        ModelFile::from_bytes(&small).unwrap().digests(),
        model.digests()
    );
    assert_ne!(model.digests().source, [0; 32]);
}

#[test]
fn half_precision_is_stored_as_f16_and_has_digests_of_its_own() {
    let file = published(|_| {});
    let whole = import(file.path(), &ImportOptions::default())
        .unwrap()
        .model;
    let options = ImportOptions {
        half: true,
        ..Default::default()
    };
    let half = import(file.path(), &options).unwrap().model;
    assert_ne!(half.digests().encoder, whole.digests().encoder);
    assert_eq!(half.digests().source, whole.digests().source);
    let bytes = half.clone().fold().to_bytes().unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(
        stored.tensor("codebook.weight").unwrap().dtype(),
        Dtype::F16
    );
    // The digest is of the values, not of how they are stored.
    assert_eq!(
        ModelFile::from_bytes(&bytes).unwrap().digests(),
        half.digests()
    );
}

#[test]
fn tensors_missing_extra_or_misshaped_are_named() {
    let missing = import_changed(|t| drop(t.remove("encoder.mid.attn_1.q.weight")));
    assert!(
        matches!(&missing, Err(Error::MissingTensor { name, .. }) if name == "encoder.mid.attn_1.q.weight"),
        "{missing:?}"
    );
    let extra = import_changed(|t| {
        t.insert("decoder.surplus".into(), (vec![1], vec![0.0]));
    });
    assert!(
        matches!(&extra, Err(Error::ExtraTensors { first, count: 1 }) if first == "decoder.surplus"),
        "{extra:?}"
    );
    let unknown = import_changed(|t| {
        t.insert("surprise.weight".into(), (vec![1], vec![0.0]));
    });
    assert!(
        matches!(&unknown, Err(Error::ExtraTensors { first, .. }) if first == "surprise.weight"),
        "{unknown:?}"
    );
    let shape = import_changed(|t| {
        t.insert("quant_conv.bias".into(), (vec![9], vec![0.0; 9]));
    });
    assert!(
        matches!(&shape, Err(Error::TensorShape { name, expected, found })
            if name == "quant_conv.bias" && expected == &[8] && found == &[9]),
        "{shape:?}"
    );
    let table = import_changed(|t| {
        t.insert("tok_embeddings.weight".into(), (vec![2, 16], vec![0.0; 32]));
    });
    assert!(
        matches!(&table, Err(Error::TensorShape { name, .. }) if name == "tok_embeddings.weight")
    );
}

#[test]
fn prefixes_are_stripped_and_losses_left_out() {
    let plain = import_changed(|_| {}).unwrap();
    let file = published(|t| {
        *t = std::mem::take(t)
            .into_iter()
            .map(|(name, v)| (format!("module.{name}"), v))
            .collect();
        t.insert("module.loss.logvar".into(), (vec![1], vec![0.0]));
    });
    let imported = import(file.path(), &ImportOptions::default()).unwrap();
    assert_eq!(imported.left_out, ["module.loss.logvar"]);
    assert_eq!(imported.model.digests(), plain.digests());
}

#[test]
fn damage_is_found() {
    let bytes = random_model(&VqganConfig::preset("tiny-f16").unwrap(), 3)
        .unwrap()
        .to_bytes()
        .unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(matches!(
        ModelFile::from_bytes(&flipped),
        Err(Error::Digest { .. })
    ));
    for cut in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        assert!(
            ModelFile::from_bytes(&bytes[..cut]).is_err(),
            "cut at {cut}"
        );
    }
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    // Every eleventh byte of the header: an error, or the very same model; never a panic.
    for at in (0..header).step_by(11) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x15;
        if let Ok(read) = ModelFile::from_bytes(&bad) {
            let original = ModelFile::from_bytes(&bytes).unwrap();
            assert_eq!(read.digests(), original.digests(), "byte {at}");
            assert_eq!(read.config(), original.config(), "byte {at}");
        }
    }
    let newer = String::from_utf8_lossy(&bytes[..header]).replacen(
        r#"\"version\":\"1\""#,
        r#"\"version\":\"9\""#,
        1,
    );
    let newer = [newer.as_bytes(), &bytes[header..]].concat();
    assert!(matches!(
        ModelFile::from_bytes(&newer),
        Err(Error::Version { .. })
    ));
}

#[test]
fn weights_that_were_not_converted_say_what_to_do() {
    let bytes = std::fs::read(published(|_| {}).path()).unwrap();
    let err = ModelFile::from_bytes(&bytes).unwrap_err();
    assert!(matches!(err, Error::NotConverted));
    assert!(err.to_string().contains("vqlc model convert"));
}

#[test]
fn a_network_runs_at_any_multiple_of_the_factor() {
    let config = VqganConfig::preset("tiny-f16").unwrap();
    let tokenizer = Tokenizer::new(&random_model(&config, 4).unwrap(), &Device::Cpu).unwrap();
    for (height, width) in [(16, 16), (32, 48), (80, 16), (272, 256)] {
        let ids = tokenizer
            .encode(&vec![0.25; 3 * height * width], 1, height, width)
            .unwrap();
        assert_eq!(ids.len(), height * width / 256);
        assert!(ids.iter().all(|&id| id < tokenizer.codebook_size()));
        let pixels = tokenizer.decode(&ids, 1, height / 16, width / 16).unwrap();
        assert_eq!(pixels.len(), 3 * height * width);
    }
    assert!(tokenizer.encode(&[0.0; 3 * 16 * 17], 1, 16, 17).is_err());
    assert!(tokenizer.encode(&[], 0, 0, 0).is_err());
    assert!(matches!(
        tokenizer.decode(&[1000], 1, 1, 1),
        Err(Error::IdOutOfRange {
            id: 1000,
            codebook_size: 1000
        })
    ));
}

#[test]
fn lookup_is_the_inverse_of_quantize_on_codebook_entries() {
    let config = VqganConfig::preset("tiny-f16").unwrap();
    let tokenizer = Tokenizer::new(&random_model(&config, 5).unwrap(), &Device::Cpu).unwrap();
    let ids: Vec<u32> = (0..1000).collect();
    let z_q: Tensor = tokenizer.lookup(&ids, 1, 25, 40).unwrap();
    assert_eq!(tokenizer.quantize(&z_q).unwrap(), ids);
}
