//! Metrics against an independent implementation's.

mod common;

use candle_core::Device;
use vqlc_train::reference::compare_metrics;

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
