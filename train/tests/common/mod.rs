//! Helpers that several test files share.

use std::path::{Path, PathBuf};

/// The folders of reference tensors: the one that `VQLC_REFERENCE_DIR` names, else `../shared/reference` beside the repository where it
/// exists; and always the small set in `fixtures/reference`.
///
/// # Panics
/// If a folder does not exist: parity is never skipped.
pub(crate) fn reference_dirs() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let small = root.join("fixtures/reference");
    let mut folders = match std::env::var_os("VQLC_REFERENCE_DIR") {
        // Relative to the workspace root, where the test command is usually run from.
        Some(folder) => vec![root.join(folder)],
        None => Vec::from_iter(Some(root.join("../shared/reference")).filter(|f| f.is_dir())),
    };
    folders.push(small);
    for folder in &folders {
        assert!(
            folder.is_dir(),
            "no reference folder at {}",
            folder.display()
        );
    }
    folders
}
