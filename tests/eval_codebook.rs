//! `vqlc eval codebook`: figures against ones computed here, and what is refused.

mod common;

use std::collections::HashMap;

use common::{CODEBOOK_SIZE, Folder, GRID, digests, flip, spec, tiny_model, token_file, vqlc};
use serde_json::Value;
use vqlc_format::{Digest, Digests, Grid};

/// Bits, `-sum p log2 p` over how often each thing is there.
fn entropy<T: std::hash::Hash + Eq>(things: impl Iterator<Item = T>) -> f64 {
    let mut counts: HashMap<T, u64> = HashMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    let all: u64 = counts.values().sum();
    let share = |count: &u64| *count as f64 / all as f64;
    counts.values().map(share).map(|p| -p * p.log2()).sum()
}

fn near(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap();
    assert!(
        (found - expected).abs() < 1e-9,
        "{found}, expected {expected}"
    );
}

/// Each id with its left and its upper neighbour, `None` at the edges.
fn neighbours(ids: &[u32], cols: usize) -> Vec<(u32, Option<u32>, Option<u32>)> {
    let one = |(at, &id): (usize, &u32)| {
        let left = (at % cols > 0).then(|| ids[at - 1]);
        (id, left, at.checked_sub(cols).map(|above| ids[above]))
    };
    ids.iter().enumerate().map(one).collect()
}

#[test]
fn figures_are_those_of_the_first_views() {
    let folder = Folder::new();
    let file = folder.path("a.vqt");
    let mut spec = spec();
    spec.views = vec!["center".into(), "flip".into()];
    let per_record = (GRID * GRID) as usize;
    let ids = token_file(&file, &spec, 40);
    let records: Vec<&[u32]> = ids.chunks_exact(per_record).step_by(2).collect();
    let tokens: Vec<u32> = records.concat();
    let counts = folder.path("counts.safetensors");
    let run = vqlc(args![
        "eval", "codebook", "--json", &file, "--counts", &counts
    ])
    .code(0);
    let found = run.json();
    assert_eq!(found["tokens"], tokens.len());
    assert_eq!(found["pictures"], 40);
    assert_eq!(found["views"], "first");
    assert_eq!(found["codebook_size"], CODEBOOK_SIZE);
    assert_eq!(found["bits_stored"], 10);
    let order0 = entropy(tokens.iter());
    near(&found["perplexity"], order0.exp2());
    near(&found["bits"]["order0"], order0);
    near(&found["bits"]["uniform"], f64::from(CODEBOOK_SIZE).log2());
    let all: Vec<_> = records
        .iter()
        .flat_map(|ids| neighbours(ids, GRID as usize))
        .collect();
    let left = entropy(all.iter().map(|&(id, left, _)| (id, left)))
        - entropy(all.iter().map(|&(_, left, _)| left));
    let up = entropy(all.iter().map(|&(id, _, up)| (id, up)))
        - entropy(all.iter().map(|&(_, _, up)| up));
    near(&found["bits"]["left"]["bits"], left);
    near(&found["bits"]["up"]["bits"], up);
    // Ids drawn at random: the figures given a neighbour are deceived, the codes are not.
    assert!(left < 3.0 && up < 3.0);
    for code in ["order0", "neighbours"] {
        assert!(found["bits"]["adaptive"][code].as_f64().unwrap() > 9.9);
    }
    assert_eq!(
        found["bits"]["adaptive_since_mark"]["tokens"],
        4 * per_record
    );

    let bytes = std::fs::read(&counts).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let plain = tensors.tensor("plain").unwrap();
    assert_eq!(plain.shape(), [CODEBOOK_SIZE as usize]);
    let count = |id: usize| i64::from_le_bytes(plain.data()[8 * id..][..8].try_into().unwrap());
    for id in 0..CODEBOOK_SIZE {
        let expected = tokens.iter().filter(|&&token| token == id).count();
        assert_eq!(count(id as usize), expected as i64);
    }
    let again = vqlc(args!["eval", "codebook", &file, "--counts", &counts]).code(1);
    assert!(again.err.contains("--force"), "{again:?}");
}

#[test]
fn files_are_one_stream_and_grids_may_vary() {
    let folder = Folder::new();
    let mut whole = spec();
    whole.grid = Grid::Varying;
    let (a, b) = (folder.path("a.vqt"), folder.path("b.vqt"));
    let (first, second) = (token_file(&a, &whole, 7), token_file(&b, &spec(), 9));
    let run = vqlc(args!["eval", "codebook", "--json", &a, &b]).code(0);
    let found = run.json();
    assert_eq!(found["tokens"], first.len() + second.len());
    near(
        &found["bits"]["order0"],
        entropy(first.iter().chain(&second)),
    );
    // Pictures of the ragged file have 1, 2 or 3 rows of 2.
    let mut at = 0;
    let mut all = Vec::new();
    for picture in 0..7 {
        let ids = 2 * (1 + picture % 3);
        all.extend(neighbours(&first[at..at + ids], 2));
        at += ids;
    }
    for record in second.chunks_exact((GRID * GRID) as usize) {
        all.extend(neighbours(record, GRID as usize));
    }
    let up = entropy(all.iter().map(|&(id, _, up)| (id, up)))
        - entropy(all.iter().map(|&(_, _, up)| up));
    near(&found["bits"]["up"]["bits"], up);
    assert_eq!(found["files"][1]["pictures"], 9);
    let content = vqlc(args!["info", "--json", &a]).code(0).json()["content"].clone();
    assert_eq!(found["files"][0]["content"], content);

    let text = vqlc(args!["eval", "codebook", "-v", &a, &b]).code(0);
    for said in [
        "first views of 16 pictures in 2 files",
        "biased low",
        "reachable, saves",
        content.as_str().unwrap(),
    ] {
        assert!(text.out.contains(said), "{said}: {text:?}");
    }
    assert_eq!(text.out, vqlc(args!["eval", "codebook", "-v", &a, &b]).out);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = Folder::new();
    let (a, b) = (folder.path("a.vqt"), folder.path("b.vqt"));
    token_file(&a, &spec(), 5);
    let mut other = spec();
    other.digests = Digests {
        codebook: Digest([7; 32]),
        ..other.digests
    };
    token_file(&b, &other, 6);
    let run = vqlc(args!["eval", "codebook", &a, &b]).code(5);
    assert!(
        run.err.contains("b.vqt") && run.err.contains("codebook digest"),
        "{run:?}"
    );
    assert_eq!((run.err.lines().count(), run.out.as_str()), (1, ""));

    let copy = folder.path("copy.vqt");
    std::fs::copy(&a, &copy).unwrap();
    let run = vqlc(args!["eval", "codebook", &a, &copy]).code(1);
    assert!(run.err.contains("the same content as"), "{run:?}");

    let model = tiny_model(1);
    let path = folder.path("model.safetensors");
    model.write(&path).unwrap();
    let run = vqlc(args!["eval", "codebook", &a, "--model", &path]).code(5);
    assert!(run.err.contains("digest"), "{run:?}");
    other.digests = digests(&model);
    token_file(&b, &other, 6);
    vqlc(args!["eval", "codebook", &b, "--model", &path]).code(0);

    token_file(&b, &spec(), 0);
    let run = vqlc(args!["eval", "codebook", &b]).code(1);
    assert!(run.err.contains("no picture"), "{run:?}");
    let middle = std::fs::metadata(&a).unwrap().len() / 2;
    flip(&a, middle);
    vqlc(args!["eval", "codebook", &a]).code(4);
    let mut huge = spec();
    huge.codebook_size = (1 << 24) + 1;
    token_file(&b, &huge, 1);
    let run = vqlc(args!["eval", "codebook", &b]).code(1);
    assert!(run.err.contains("16,777,216"), "{run:?}");
}
