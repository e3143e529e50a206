//! Metrics against an independent implementation's.

mod common;

use std::path::Path;

use candle_core::Device;
use vqlc_train::reference::compare_metrics;

#[test]
fn metrics_match_the_reference() {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/reference");
    for folder in [common::reference_dir(), small] {
        let comparisons = compare_metrics(&folder, &Device::Cpu).unwrap();
        // 3 PSNR, 3 SSIM, mean and covariance, 2 Fréchet distances, 4 of the codebook.
        assert_eq!(comparisons.len(), 14);
        let failed: Vec<_> = comparisons.iter().filter(|c| !c.passed()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
