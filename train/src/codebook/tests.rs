//! K-means and files, without a backbone.

use candle_core::Device;
use vqlc_model::rng::Rng;

use super::*;

const DIM: usize = 20;

/// `clusters` clouds of 40 features around points far from each other, in turn.
fn clouds(clusters: usize) -> Features {
    let mut rng = Rng::new(3);
    let centres: Vec<f64> = (0..clusters * DIM).map(|_| 10.0 * rng.normal()).collect();
    let values = (0..40 * clusters)
        .flat_map(|i| {
            let centre = &centres[i % clusters * DIM..][..DIM];
            let row: Vec<f16> = centre
                .iter()
                .map(|c| f16::from_f64(c + 0.1 * rng.normal()))
                .collect();
            row
        })
        .collect();
    Features::new(values, DIM, vec![40; clusters])
}

fn one_group(features: &Features, codes: usize) -> Vec<Group> {
    vec![Group {
        name: String::new(),
        points: 0..features.count(),
        codes: 0..codes,
    }]
}

fn run(features: &Features, codes: usize, seed: u64) -> (State, Vec<Iteration>) {
    let groups = one_group(features, codes);
    let mut state = State::start(features, &groups, seed).unwrap();
    let mut made = Vec::new();
    while !state.settled && made.len() < 50 {
        made.push(state.iterate(features, &groups, &Device::Cpu).unwrap());
    }
    (state, made)
}

#[test]
fn iterations_lower_the_inertia_until_nothing_moves() {
    let features = clouds(12);
    let (state, made) = run(&features, 30, 1);
    assert!(state.settled && made.len() > 2, "{made:?}");
    assert_eq!(made[0].moved, 480);
    assert_eq!(made.last().unwrap().moved, 0);
    for pair in made.windows(2) {
        assert!(pair[1].inertia <= pair[0].inertia, "{made:?}");
    }
    // Nothing is empty at the end, so the counts are those of all features.
    assert_eq!(state.counts.iter().sum::<u32>(), 480);
    // Each centre is the mean of its own features.
    for code in [0, 17, 29] {
        let own: Vec<usize> = (0..480)
            .filter(|&i| state.ids[i] as usize == code)
            .collect();
        assert_eq!(own.len(), state.counts[code] as usize);
        let mean = own
            .iter()
            .map(|&i| features.row(i)[5].to_f64())
            .sum::<f64>()
            / own.len() as f64;
        let found = f64::from(state.centres[code * DIM + 5]);
        assert!((mean - found).abs() < 1e-5, "{mean} {found}");
    }
}

#[test]
fn threads_make_no_difference_and_seeds_do() {
    let features = clouds(9);
    let alone = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let (state, _) = run(&features, 20, 5);
    assert_eq!(state, alone.install(|| run(&features, 20, 5).0));
    assert_ne!(state.centres, run(&features, 20, 6).0.centres);
}

#[test]
fn empty_centres_move_to_far_features() {
    let features = clouds(6);
    let groups = one_group(&features, 8);
    let mut state = State::start(&features, &groups, 1).unwrap();
    // Two centres where no feature is.
    for code in [2, 6] {
        state.centres[code * DIM..(code + 1) * DIM].fill(1000.0);
    }
    let made = state.iterate(&features, &groups, &Device::Cpu).unwrap();
    assert_eq!((made.empty, made.reseeded), (2, 2));
    assert_eq!((state.counts[2], state.counts[6]), (1, 1));
    for code in [2, 6] {
        let centre = &state.centres[code * DIM..(code + 1) * DIM];
        let is_feature = |i: usize| {
            features
                .row(i)
                .iter()
                .map(|v| v.to_f32())
                .eq(centre.iter().copied())
        };
        assert!((0..features.count()).any(is_feature));
    }
    // A centre that is a feature keeps at least that one.
    state.iterate(&features, &groups, &Device::Cpu).unwrap();
    assert!(state.counts[2] >= 1 && state.counts[6] >= 1);
}

#[test]
fn features_that_are_alike_count_once() {
    let mut values = vec![f16::ONE; 30 * DIM];
    values[DIM] = f16::ZERO;
    let features = Features::new(values, DIM, vec![30]);
    let start = |codes| State::start(&features, &one_group(&features, codes), 1);
    assert!(start(2).is_ok());
    let text = start(3).unwrap_err().to_string();
    assert!(
        text.contains("at least 3") && text.contains("2 among 30"),
        "{text}"
    );
}

#[test]
fn groups_keep_to_themselves() {
    let features = clouds(4);
    let half = features.count() / 2;
    let group = |name: &str, points, codes| Group {
        name: name.into(),
        points,
        codes,
    };
    let groups = [group("a", 0..half, 0..5), group("b", half..2 * half, 5..8)];
    let mut state = State::start(&features, &groups, 2).unwrap();
    state.iterate(&features, &groups, &Device::Cpu).unwrap();
    assert!(state.ids[..half].iter().all(|&id| id < 5));
    assert!(state.ids[half..].iter().all(|&id| (5..8).contains(&id)));
}

#[test]
fn a_state_on_disk_goes_on_as_if_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = state_path(&dir.path().join("out.safetensors"));
    let features = clouds(10);
    let groups = one_group(&features, 25);
    let mut state = State::start(&features, &groups, 1).unwrap();
    state.iterate(&features, &groups, &Device::Cpu).unwrap();
    state::write(&path, "job", &state, DIM).unwrap();
    let shape = (25, DIM, features.count());
    let mut resumed = state::read(&path, "job", shape).unwrap();
    assert_eq!(resumed, state);
    for state in [&mut state, &mut resumed] {
        state.iterate(&features, &groups, &Device::Cpu).unwrap();
    }
    assert_eq!(resumed, state);
    assert!(state::read(&path, "another", shape).is_err());
    assert!(state::read(&path, "job", (24, DIM, features.count())).is_err());
    std::fs::write(&path, b"nothing").unwrap();
    assert!(state::read(&path, "job", shape).is_err());
}

fn provenance() -> Provenance {
    Provenance {
        version: "1".into(),
        backbone: "b".into(),
        weights: "w".into(),
        pictures: "p".into(),
        picture_count: 3,
        unreadable: 0,
        select: Select::Kmeans,
        classes: None,
        seed: 7,
        iterations: 2,
        inertia: Some(0.1),
        views: 1,
        pool: 1,
        features: 9,
        kept: 9,
        scale: 1.0,
    }
}

#[test]
fn files_come_back_and_damage_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("book.safetensors");
    let (state, _) = run(&clouds(5), 6, 1);
    let book = finish(state, DIM, provenance()).unwrap();
    assert_eq!((book.codes(), book.dim()), (6, DIM));
    let mean = book.entries().iter().sum::<f32>() / book.entries().len() as f32;
    let squares = book
        .entries()
        .iter()
        .map(|v| (v - mean).powi(2))
        .sum::<f32>();
    let deviation = (squares / book.entries().len() as f32).sqrt();
    assert!((deviation - 1.0).abs() < 1e-3, "{deviation}");
    assert!(book.provenance().unwrap().scale > 1.0);
    book.write(&path).unwrap();
    assert_eq!(Codebook::read(&path).unwrap(), book);
    // f16: two bytes a number.
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(length < 4 * 6 * DIM as u64 + 1500, "{length}");

    let mut bytes = std::fs::read(&path).unwrap();
    // Of the smallest dtype's data comes last: the table.
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let text = Codebook::read(&path).unwrap_err().to_string();
    assert!(text.contains("digest"), "{text}");
    std::fs::write(&path, &bytes[..40]).unwrap();
    assert!(Codebook::read(&path).is_err());
}

#[test]
fn the_digest_is_the_models_source_digest() {
    let config = vqlc_model::VqganConfig::preset("tiny-f16").unwrap();
    let drawn = vqlc_model::tokenizer::random_model(&config, 1).unwrap();
    let shape = (config.n_codes, config.code_dim);
    let values: Vec<f32> = (0..shape.0 * shape.1).map(|i| i as f32 * 0.5).collect();
    let table = candle_core::Tensor::from_slice(&values, shape, &Device::Cpu).unwrap();
    let mut tensors = drawn.tensors().clone();
    tensors.insert(vqlc_model::file::SOURCE.into(), table);
    let model = vqlc_model::file::ModelFile::new(config, String::new(), tensors, None).unwrap();
    let book = Codebook::new(values, shape.1, vec![], None).unwrap();
    assert_eq!(book.digest(), model.digests().source);
}

#[test]
fn what_cannot_be_is_refused() {
    assert!(Codebook::new(vec![1.0; 5], 2, vec![], None).is_err());
    assert!(Codebook::new(vec![], 2, vec![], None).is_err());
    assert!(Codebook::new(vec![f32::NAN; 4], 2, vec![], None).is_err());
    assert!(Codebook::new(vec![1.0; 4], 2, vec![1], None).is_err());
    let settings = Settings {
        codes: 1000,
        select: Select::Kmeans,
        per_class: false,
        pool: None,
        seed: 0,
        iterations: 1,
        views: 2,
        feature_budget: 1 << 20,
    };
    // 3 pictures of 16 patches in 2 views: 96 features.
    let text = enough(&settings, 16, 96, 3).unwrap_err().to_string();
    assert!(
        text.contains("32 pictures with 2 views") && text.contains("21 views"),
        "{text}"
    );
    assert!(enough(&settings, 16, 1000, 3).is_ok());
    assert!(check(&settings, 16, 4).is_ok());
    assert!(check(&settings, 14, 4).is_err());
}

#[test]
fn shares_of_a_budget() {
    // 2 bytes for each of 10 numbers: 50 features in 1000 bytes.
    assert_eq!(kept(8, 16, 10, 1000), 50);
    assert_eq!(kept(2, 16, 10, 1000), 32);
}
