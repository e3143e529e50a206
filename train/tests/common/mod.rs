//! Where reference tensors are.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};

use candle_core::Device;
use vqlc_model::reference::Comparison;

/// The folder that `VQLC_REFERENCE_DIR` names, else `../shared/reference` beside the repository if it is there; and the repository's
/// own small copies. Parity is never skipped.
pub(crate) fn reference_dirs() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = match std::env::var_os("VQLC_REFERENCE_DIR") {
        // Relative to the workspace root, where the test command is usually run from.
        Some(folder) => vec![root.join(folder)],
        None => Vec::from_iter(Some(root.join("../shared/reference")).filter(|f| f.is_dir())),
    };
    folders.push(fixtures());
    for folder in &folders {
        assert!(
            folder.is_dir(),
            "no reference folder at {}",
            folder.display()
        );
    }
    folders
}

/// The repository's own small copies.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/reference")
}

/// The folder of the published weights that a reference folder was made with: beside it, or beside the repository.
pub(crate) fn weights_of(folder: &Path) -> PathBuf {
    let beside = folder.join("../weights");
    if beside.is_dir() {
        beside
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/weights")
    }
}

/// Runs a comparison on every folder: something was compared, and all of it is within its limits.
pub(crate) fn all_pass(compare: impl Fn(&Path, &Device) -> vqlc_train::Result<Vec<Comparison>>) {
    for folder in reference_dirs() {
        let made = compare(&folder, &Device::Cpu).unwrap();
        assert!(!made.is_empty());
        let failed: Vec<_> = made.iter().filter(|c| !c.passed()).collect();
        assert!(
            failed.is_empty(),
            "{}: {} of {} are out of their limits: {failed:#?}",
            folder.display(),
            failed.len(),
            made.len()
        );
    }
}
