//! Whether a manifest vouches for files that have several names.

use std::fs::Metadata;
use std::path::Path;

use super::manifest::{Manifest, ModelRecord};
use crate::hub::is_own_file;

/// Deeper folders hold nothing of a model.
const DEEPEST: usize = 4;

/// Whether every file that the manifest of `folder` lists is there with its size, and every file with several names
/// is listed or one of this application's own.
pub(super) fn are_listed(folder: &Path) -> bool {
    let Ok(Some(Manifest { record, .. })) = Manifest::read(folder) else { return false };
    let is_there = |metadata: Metadata, size: u64| metadata.is_file() && metadata.len() == size;
    let mut listed = record.files.iter();
    listed
        .all(|file| folder.join(&file.path).symlink_metadata().is_ok_and(|found| is_there(found, file.size)))
        && !has_stranger(folder, "", &record, 1)
}

fn has_stranger(folder: &Path, prefix: &str, record: &ModelRecord, depth: usize) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let is_known = is_own_file(&path) || record.files.iter().any(|file| file.path == path);
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => {
                depth < DEEPEST && has_stranger(&entry.path(), &format!("{path}/"), record, depth + 1)
            }
            Ok(metadata) => !is_known && has_several_names(&metadata),
            Err(_) => true,
        }
    })
}

#[cfg(unix)]
fn has_several_names(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) > 1
}

/// Windows tells the number of names only of open files, in an interface that is not stable yet.
#[cfg(not(unix))]
fn has_several_names(_: &Metadata) -> bool {
    false
}
