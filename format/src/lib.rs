//! The `.vqt` token file.
