//! Ids of a picture depend on the picture and the model alone: not on its batch, its place there, or the threads.

use std::path::Path;

use vqlc_model::{
    DeviceSpec, Tokenizer,
    image::{Fit, Preprocessing, ReadOptions, Views, read},
};

/// Below fixtures/pictures.
const PICTURES: [&str; 3] = [
    "fruit/orange.jpg",
    "birds/rooster.jpg",
    "flowers/pigface.jpg",
];

#[test]
fn ids_do_not_depend_on_batch_or_threads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let model = root.join("assets/default.safetensors");
    let tokenizer = Tokenizer::from_file(&model, DeviceSpec::Cpu).unwrap();
    // Photographs, not the drawn ones: their ids differ from each other.
    let folder = root.join("fixtures/pictures");
    let paths: Vec<_> = PICTURES.iter().map(|name| folder.join(name)).collect();
    // 128 pixels a side keep this quick and still fill several tiles of every convolution.
    let fit = Fit::Crop { size: 128 };
    let preprocessing = Preprocessing::new(fit, Views::Center, 16, [255; 3]).unwrap();
    let pictures: Vec<Vec<f32>> = paths
        .iter()
        .map(|path| {
            let rgb = read(path, &ReadOptions::default()).unwrap();
            preprocessing.prepare(&rgb).unwrap().views.remove(0)
        })
        .collect();
    let encode = |order: &[usize], threads: usize| -> Vec<Vec<u32>> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let pixels: Vec<f32> = order
            .iter()
            .flat_map(|&i| pictures[i].iter().copied())
            .collect();
        let ids = pool
            .install(|| tokenizer.encode(&pixels, order.len(), 128, 128))
            .unwrap();
        ids.chunks(64).map(<[u32]>::to_vec).collect()
    };
    let alone: Vec<Vec<u32>> = (0..3).map(|i| encode(&[i], 1).remove(0)).collect();
    assert!(
        alone[0] != alone[1] && alone[1] != alone[2],
        "different pictures have different ids"
    );
    for (order, threads) in [
        ([0, 1, 2], 1),
        ([0, 1, 2], 2),
        ([2, 0, 1], 3),
        ([1, 1, 0], 5),
    ] {
        let expected: Vec<Vec<u32>> = order.iter().map(|&i| alone[i].clone()).collect();
        assert_eq!(
            encode(&order, threads),
            expected,
            "order {order:?}, {threads} threads"
        );
    }
}
