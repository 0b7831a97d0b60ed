//! What lies below a folder.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

/// Every file below a folder, of which there may be none, in order.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// The files of KV blocks among them.
pub(crate) fn block_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = files_below(folder);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "kv"));
    files
}
