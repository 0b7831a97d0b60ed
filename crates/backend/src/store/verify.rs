//! Whether the files of an installed model still are what its manifest says.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::SystemTime;

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

impl std::fmt::Display for FileState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Right => formatter.write_str("it is right"),
            Self::Missing => formatter.write_str("it is missing"),
            Self::WrongSize { found } => write!(formatter, "it has another size, {found} bytes"),
            Self::WrongBytes { .. } => formatter.write_str("it has other bytes"),
            Self::Unreadable { reason } => formatter.write_str(reason),
        }
    }
}

/// Looks at the files of the model in `folder` before it is loaded: each has the size that its manifest says,
/// and where one was written after the manifest, every byte. Returns the first one that is wrong.
///
/// What had to be read and was right is noted in the time of the manifest, and not read the next time.
pub(crate) fn look_at(folder: &Path, manifest: &Path, record: &ModelRecord) -> Option<CheckedFile> {
    let written = |path: &Path| path.symlink_metadata().and_then(|metadata| metadata.modified());
    let known = written(manifest).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut latest = known;
    for file in &record.files {
        let path = folder.join(&file.path);
        let time = written(&path).unwrap_or(known);
        let state = match check_size(&path, file) {
            Some(wrong) => wrong,
            None if time <= known => continue,
            None => check_file(&path, file, &CancellationToken::new(), &mut |_| {})?,
        };
        if !state.is_right() {
            return Some(CheckedFile { path: file.path.clone(), state });
        }
        latest = latest.max(time).max(SystemTime::now());
    }
    if latest > known {
        // Where it cannot be noted the file is read again the next time.
        File::options().append(true).open(manifest).and_then(|file| file.set_modified(latest)).ok();
    }
    None
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
    if let Some(wrong) = check_size(path, expected) {
        return Some(wrong);
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

/// What is wrong with a file without a look into it.
fn check_size(path: &Path, expected: &RecordedFile) -> Option<FileState> {
    match path.symlink_metadata() {
        Err(error) => Some(unreadable(error)),
        // A link could lead to another file at the next look.
        Ok(metadata) if !metadata.is_file() => {
            Some(FileState::Unreadable { reason: "it is no real file".into() })
        }
        Ok(metadata) if metadata.len() != expected.size => {
            Some(FileState::WrongSize { found: metadata.len() })
        }
        Ok(_) => None,
    }
}

fn unreadable(error: io::Error) -> FileState {
    match error.kind() {
        ErrorKind::NotFound => FileState::Missing,
        _ => FileState::Unreadable { reason: error.to_string() },
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
