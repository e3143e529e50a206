//! Pretrained networks, but of random weights, as files.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use std::{collections::BTreeMap, path::Path};

use vqlc_model::{
    DeviceSpec,
    params::{RandomParams, Tensors},
};
use vqlc_train::backbone::{EfficientNet, InceptionV3};

/// EfficientNet-Lite0, 19 MB.
pub fn efficientnet(path: &Path) {
    let device = DeviceSpec::Cpu.open().unwrap();
    let (_, drawn) = RandomParams::build(1, &device, |vb| EfficientNet::new(&vb)).unwrap();
    write(path, &drawn);
}

/// FID's Inception, 96 MB.
pub fn inception(path: &Path) {
    let device = DeviceSpec::Cpu.open().unwrap();
    let (_, drawn) = RandomParams::build(1, &device, |vb| InceptionV3::new(&vb)).unwrap();
    write(path, &drawn);
}

fn write(path: &Path, drawn: &Tensors) {
    let data: BTreeMap<String, (Vec<usize>, Vec<u8>)> = drawn
        .iter()
        .map(|(name, tensor)| {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.clone(), (tensor.dims().to_vec(), bytes))
        })
        .collect();
    let views = data.iter().map(|(name, (shape, bytes))| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name, view.unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
