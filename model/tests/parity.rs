//! The network against an independent implementation's activations, ids and reconstructions.

mod common;

use candle_core::Device;
use vqlc_model::reference::compare_vqgan;

#[test]
fn vqgan_matches_the_reference() {
    let comparisons = compare_vqgan(&common::reference_dir(), &Device::Cpu).unwrap();
    // 1 table, 2 latents, 2 id maps, 1 z_q, 2 reconstructions, 1 decode from ids.
    assert_eq!(comparisons.len(), 9);
    let failed: Vec<_> = comparisons.iter().filter(|c| !c.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_folder_without_the_tensors_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(compare_vqgan(empty.path(), &Device::Cpu).is_err());
}
