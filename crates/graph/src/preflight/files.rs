//! The files beside a graph that may hold its weights.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::finding::{Problem, shown};
use crate::source::unreal_file;

/// A folder whose files may hold weights: real files by plain names, nothing beyond.
#[derive(Debug, Clone)]
pub struct Files {
    folder: Option<PathBuf>,
    other_names: bool,
}

impl Files {
    /// The folder of the graph at `path`.
    pub fn beside(path: &Path) -> Self {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Self { folder: Some(folder.unwrap_or(Path::new(".")).to_path_buf()), other_names: false }
    }

    /// The same, whose files may have other names too; see [`crate::Limits::other_names`].
    #[must_use]
    pub fn with_other_names(self, other_names: bool) -> Self {
        Self { other_names, ..self }
    }

    /// No files at all, for graphs that have their weights inside.
    pub fn none() -> Self {
        Self { folder: None, other_names: false }
    }

    /// The size of a file. The file itself is not opened, since a name may lead to a pipe or a device.
    pub(crate) fn size(&self, name: &str) -> Result<u64, Problem> {
        if !is_plain_name(name) {
            return Err(Problem::NotAFileName { location: shown(name) });
        }
        let missing = || Problem::FileMissing { file: name.to_owned() };
        let path = self.folder.as_ref().ok_or_else(missing)?.join(name);
        let metadata = path.symlink_metadata().map_err(|_| missing())?;
        match unreal_file(&metadata, self.other_names) {
            Some(what) => Err(Problem::NotARealFile { file: name.to_owned(), what }),
            None => Ok(metadata.len()),
        }
    }

    /// Bytes of a file whose size was asked before; `None` where they cannot be read.
    pub(super) fn read(&self, name: &str, offset: u64, length: usize) -> Option<Vec<u8>> {
        self.size(name).ok()?;
        let mut file = File::open(self.folder.as_ref()?.join(name)).ok()?;
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// Whether `name` is one file name that means the same on every system.
pub fn is_plain_name(name: &str) -> bool {
    const LONGEST: usize = 100;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let stem = name.split('.').next().unwrap_or_default();
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.ends_with('.')
        && name != ".."
        && !is_device(stem)
}

/// Windows has devices in every folder, under any extension.
fn is_device(stem: &str) -> bool {
    let stem = stem.to_ascii_lowercase();
    let numbered = |name: &str| {
        stem.strip_prefix(name)
            .is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}
