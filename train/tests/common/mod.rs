//! Helpers that several test files share.

use std::path::{Path, PathBuf};

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
            if shared.is_dir() {
                shared
            } else {
                root.join("fixtures/reference")
            }
        }
    };
    assert!(dir.is_dir(), "no reference folder at {}", dir.display());
    dir
}
