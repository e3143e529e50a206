//! Helpers that several test files share.

use std::path::{Path, PathBuf};

use candle_core::Device;
use vqlc_model::reference::Comparison;

/// The folder of reference tensors: `VQLC_REFERENCE_DIR` if set, else `../shared/reference` beside the repository if
/// it exists, else the small set in `fixtures/reference`.
///
/// # Panics
/// If the folder that `VQLC_REFERENCE_DIR` names, or the repository's own, does not exist: parity is never skipped.
pub(crate) fn reference_dir() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = match std::env::var_os("VQLC_REFERENCE_DIR") {
        // Relative to the workspace root, where the test command is usually run from.
        Some(dir) => root.join(dir),
        None => {
            let shared = root.join("../shared/reference");
            if shared.is_dir() { shared } else { fixtures() }
        }
    };
    assert!(dir.is_dir(), "no reference folder at {}", dir.display());
    dir
}

/// The small set that comes with the repository.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/reference")
}

/// Runs a comparison on the CPU against both folders.
///
/// # Panics
/// If one compares nothing or anything is out of its limit.
pub(crate) fn all_pass(compare: impl Fn(&Path, &Device) -> vqlc_train::Result<Vec<Comparison>>) {
    for folder in [reference_dir(), fixtures()] {
        let made = compare(&folder, &Device::Cpu).unwrap();
        assert!(!made.is_empty());
        let wrong: Vec<_> = made.iter().filter(|c| !c.passed()).collect();
        assert!(
            wrong.is_empty(),
            "{}: {} of {} are out of their limits: {wrong:#?}",
            folder.display(),
            wrong.len(),
            made.len()
        );
    }
}
