//! Metrics against an independent implementation's.

mod common;

use candle_core::Device;
use vqlc_model::reference::ReferenceFile;
use vqlc_train::reference::{compare_judges, compare_metrics};

#[test]
fn metrics_match_the_reference() {
    for folder in common::reference_dirs() {
        let comparisons = compare_metrics(&folder, &Device::Cpu).unwrap();
        // 3 PSNR, 3 SSIM, mean and covariance, 2 Fréchet distances, 4 of the codebook.
        assert_eq!(comparisons.len(), 14);
        let failed: Vec<_> = comparisons.iter().filter(|c| !c.passed()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
}

/// Only the repository has a reference of these.
#[test]
fn metrics_match_the_usual_packages() {
    let folder = common::fixtures();
    let made = compare_judges(&folder, &Device::Cpu).unwrap();
    let stored = ReferenceFile::open(&folder, "judges.safetensors").unwrap();
    // One Fréchet distance is also taken of a file of statistics.
    assert_eq!(made.len(), stored.keys("out.").count() + 1);
    let failed: Vec<_> = made.iter().filter(|c| !c.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
