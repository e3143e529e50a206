//! LPIPS on AlexNet against the lpips package's; on VGG16 it is among the parts.

mod common;

use candle_core::{DType, Device, Tensor};
use vqlc_model::{params::Tensors, reference::ReferenceFile};
use vqlc_train::{losses::lpips::Lpips, reference::compare_lpips_alex};

/// Only the repository has a reference of it.
#[test]
fn lpips_on_alexnet_matches_its_fixture() {
    let folder = common::fixtures();
    let made = compare_lpips_alex(&folder, &Device::Cpu).unwrap();
    let stored = ReferenceFile::open(&folder, "lpips_alex.safetensors").unwrap();
    let wanted = stored.keys("").filter(|key| !key.starts_with("in."));
    assert_eq!(made.len(), wanted.count());
    let failed: Vec<_> = made.iter().filter(|c| !c.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn which_network_it_is_is_told_by_the_tensors() {
    let of = |shapes: &[(usize, usize)]| {
        let mut tensors = Tensors::new();
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let mut channels = 3;
        for &(number, side) in shapes {
            let weight = zeros(&[2, channels, side, side]);
            tensors.insert(format!("features.{number}.weight"), weight);
            tensors.insert(format!("features.{number}.bias"), zeros(&[2]));
            channels = 2;
        }
        for k in 0..5 {
            tensors.insert(format!("lin{k}.model.1.weight"), zeros(&[1, 2, 1, 1]));
        }
        Lpips::from_tensors(&tensors, &Device::Cpu, DType::F32)
    };
    let alex = of(&[(0, 11), (3, 5), (6, 3), (8, 3), (10, 3)]).unwrap();
    assert_eq!(alex.name(), "alex");
    let layers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28].map(|n| (n, 3));
    let vgg = of(&layers).unwrap();
    assert_eq!(vgg.name(), "vgg");
    assert!(of(&[(0, 11), (3, 3)]).is_err() && of(&[(0, 3)]).is_err() && of(&[]).is_err());
    for net in [alex, vgg] {
        let picture = |side: usize| {
            let shape = (1, 3, side, side);
            Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
        };
        let (least, less) = (picture(net.least_side()), picture(net.least_side() - 1));
        assert!(net.distances(&least, &least).is_ok(), "{}", net.name());
        assert!(net.distances(&less, &less).is_err(), "{}", net.name());
    }
}
