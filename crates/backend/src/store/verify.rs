//! Whether the files of an installed model still are what its manifest says.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::manifest::{ModelRecord, RecordedFile};
use crate::hub::{Digest, FileHasher};

const CHUNK: usize = 1 << 20;

/// How a file was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum FileState {
    Right,
    Missing,
    /// It has another length.
    WrongSize {
        found: u64,
    },
    /// It has other bytes.
    WrongBytes {
        found: Digest,
    },
    Unreadable {
        reason: String,
    },
}

impl FileState {
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Right)
    }
}

/// A file of a model with what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedFile {
    pub path: String,
    #[serde(flatten)]
    pub state: FileState,
}

/// Reads every byte of the model in `folder`; `None` where `stop` came first. `on_bytes` is told how many more
/// were read.
pub(crate) fn verify(
    folder: &Path,
    record: &ModelRecord,
    stop: &CancellationToken,
    on_bytes: &mut dyn FnMut(u64),
) -> Option<Vec<CheckedFile>> {
    let mut checked = Vec::new();
    for file in &record.files {
        let state = check_file(&folder.join(&file.path), file, stop, on_bytes)?;
        checked.push(CheckedFile { path: file.path.clone(), state });
    }
    Some(checked)
}

/// Reads a file and compares; `None` where `stop` came first.
pub(crate) fn check_file(
    path: &Path,
    expected: &RecordedFile,
    stop: &CancellationToken,
    on_bytes: &mut dyn FnMut(u64),
) -> Option<FileState> {
    let unreadable = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => FileState::Missing,
        _ => FileState::Unreadable { reason: error.to_string() },
    };
    match path.symlink_metadata() {
        Err(error) => return Some(unreadable(error)),
        // A link could lead to another file at the next look.
        Ok(metadata) if !metadata.is_file() => {
            return Some(FileState::Unreadable { reason: "it is no real file".into() });
        }
        Ok(metadata) if metadata.len() != expected.size => {
            return Some(FileState::WrongSize { found: metadata.len() });
        }
        Ok(_) => {}
    }
    let mut hasher = FileHasher::like(&expected.digest, expected.size);
    let read = File::open(path).and_then(|mut file| hash(&mut file, &mut hasher, stop, on_bytes));
    match read {
        Err(error) => Some(unreadable(error)),
        Ok(None) => None,
        Ok(Some(_)) => {
            let found = hasher.finish();
            Some(if found == expected.digest { FileState::Right } else { FileState::WrongBytes { found } })
        }
    }
}

/// Hashes what is left of `file` and tells its bytes; `None` where `stop` came first.
pub(crate) fn hash(
    file: &mut impl Read,
    hasher: &mut FileHasher,
    stop: &CancellationToken,
    on_bytes: &mut dyn FnMut(u64),
) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        if stop.is_cancelled() {
            return Ok(None);
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(total)),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                total += length as u64;
                on_bytes(length as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
