//! The Inception of FID against pytorch-fid's.

mod common;

use candle_core::Device;
use vqlc_train::reference::compare_inception;

/// Only the repository has a reference of it.
#[test]
fn inception_matches_its_fixture() {
    let made = compare_inception(&common::fixtures(), &Device::Cpu).unwrap();
    assert_eq!(made.len(), 6);
    let failed: Vec<_> = made.iter().filter(|c| !c.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_folder_without_the_tensors_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(compare_inception(empty.path(), &Device::Cpu).is_err());
}
