//! Losses and gradients of the whole network against an independent implementation's.

mod common;

use candle_core::Device;
use vqlc_model::reference::ReferenceFile;
use vqlc_train::reference::compare_vqgan_gradients;

#[test]
fn losses_and_gradients_match_the_reference() {
    for folder in common::reference_dirs() {
        let comparisons = compare_vqgan_gradients(&folder, &Device::Cpu).unwrap();
        let gradients = comparisons.iter().filter(|c| c.key.starts_with("grad."));
        let stored = ReferenceFile::open(&folder, "vqgan.safetensors").unwrap();
        assert_eq!(gradients.count(), stored.keys("grad.").count());
        assert_eq!(comparisons.len(), 4 + stored.keys("grad.").count());
        let failed: Vec<_> = comparisons.iter().filter(|c| !c.passed()).collect();
        assert!(failed.is_empty(), "{}: {failed:#?}", folder.display());
    }
}

#[test]
fn a_folder_without_the_tensors_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(compare_vqgan_gradients(empty.path(), &Device::Cpu).is_err());
}
