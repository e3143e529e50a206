//! CLIP's vision towers: the transformer against transformers' outputs, the ResNet against PyTorch.

mod common;

use vqlc_train::reference::{compare_clip, compare_clip_rn50};

#[test]
fn clip_matches_the_reference() {
    common::all_pass(compare_clip);
}

/// Only the repository has a reference of it.
#[test]
fn clip_rn50_matches_its_fixture() {
    let made = compare_clip_rn50(&common::fixtures(), &candle_core::Device::Cpu).unwrap();
    assert!(made.len() == 1 && made[0].passed(), "{made:?}");
}

#[test]
fn a_folder_without_the_tensors_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(compare_clip(empty.path(), &candle_core::Device::Cpu).is_err());
}
