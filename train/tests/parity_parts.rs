//! Parts of training against an independent implementation's tensors, on values and gradients.

mod common;

use std::path::Path;

use candle_core::Device;
use vqlc_model::reference::{Comparison, ReferenceFile};
use vqlc_train::{
    Result,
    reference::{
        compare_adam_steps, compare_adaptive_weight, compare_discriminator, compare_dit,
        compare_gpt, compare_lpips, compare_quantizer_variants, compare_vit,
    },
};

/// Everything that `file` stores is compared, `left_out` keys apart, and is within its limit.
fn check(
    file: &str,
    left_out: impl Fn(&str) -> bool,
    compare: impl Fn(&Path, &Device) -> Result<Vec<Comparison>>,
) {
    for folder in common::reference_dirs() {
        let stored = ReferenceFile::open(&folder, file).unwrap();
        let wanted: Vec<String> = stored
            .keys("")
            .filter(|key| key.starts_with("out.") || key.starts_with("grad."))
            .filter(|key| !left_out(key))
            .map(str::to_owned)
            .collect();
        let made = compare(&folder, &Device::Cpu).unwrap();
        let missing: Vec<_> = wanted
            .iter()
            .filter(|key| !made.iter().any(|c| c.key == **key))
            .collect();
        assert!(missing.is_empty(), "not compared: {missing:?}");
        let failed: Vec<_> = made.iter().filter(|c| !c.passed()).collect();
        assert!(failed.is_empty(), "{}: {failed:#?}", folder.display());
    }
}

#[test]
fn adam_steps_match_the_reference() {
    check("adam_steps.safetensors", |_| false, compare_adam_steps);
}

#[test]
fn quantizer_variants_match_the_reference() {
    // Gaps say where ids may differ; what fc has before its last projection is not handed out.
    let inside = ["out.fc.y", "out.fc.q"];
    check(
        "quantizer_variants.safetensors",
        |key| key.ends_with("second_best_gap") || inside.contains(&key),
        compare_quantizer_variants,
    );
}

#[test]
fn lpips_matches_the_reference() {
    check("lpips.safetensors", |_| false, compare_lpips);
}

#[test]
fn the_discriminator_matches_the_reference() {
    check(
        "discriminator.safetensors",
        |_| false,
        compare_discriminator,
    );
}

#[test]
fn the_gpt_matches_the_reference() {
    check("gpt.safetensors", |_| false, compare_gpt);
}

#[test]
fn the_vit_matches_the_reference() {
    check("vit.safetensors", |_| false, compare_vit);
}

#[test]
fn the_dit_matches_the_reference() {
    check("dit.safetensors", |_| false, compare_dit);
}

#[test]
fn the_adaptive_weight_matches_the_reference() {
    check(
        "adaptive_weight.safetensors",
        |_| false,
        compare_adaptive_weight,
    );
}
