//! EfficientNet-Lite0 and the perceptual loss against PyTorch.

mod common;

use candle_core::Device;
use vqlc_train::reference::compare_efficientnet;

/// The reference folder's outputs are those of the published weights (8 stages, class scores), the fixture's those of drawn ones
/// (also perceptual distances and their gradient). A folder that leaves this part out is no reason to compare nothing.
#[test]
fn efficientnet_matches_the_reference() {
    // Drawn weights need no file.
    let fixtures = common::fixtures();
    common::all_pass(|folder, device| {
        if folder.join("efficientnet_lite0.safetensors").is_file() {
            compare_efficientnet(folder, &common::weights_of(folder), device)
        } else {
            compare_efficientnet(&fixtures, &fixtures, device)
        }
    });
    let drawn = compare_efficientnet(&fixtures, &fixtures, &Device::Cpu).unwrap();
    assert_eq!(drawn.len(), 11);
}

#[test]
fn a_folder_without_the_tensors_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(compare_efficientnet(empty.path(), empty.path(), &Device::Cpu).is_err());
}
