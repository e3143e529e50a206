//! Latent diffusion's UNet against diffusers, on values and gradients; and samples made with it.

mod common;

use candle_core::Device;
use vqlc_model::reference::ReferenceFile;
use vqlc_train::reference::compare_ldm;

/// Only the repository has a reference of it.
#[test]
fn the_unet_matches_its_fixture() {
    let folder = common::fixtures();
    let stored = ReferenceFile::open(&folder, "ldm.safetensors").unwrap();
    let made = compare_ldm(&folder, &Device::Cpu).unwrap();
    let missing: Vec<_> = stored
        .keys("")
        .filter(|key| key.starts_with("out.") || key.starts_with("grad."))
        .filter(|key| !made.iter().any(|c| c.key == *key))
        .collect();
    assert!(missing.is_empty(), "not compared: {missing:?}");
    let failed: Vec<_> = made.iter().filter(|c| !c.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_folder_without_the_tensors_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(compare_ldm(empty.path(), &Device::Cpu).is_err());
}
