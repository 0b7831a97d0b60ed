//! The bytes of a model, read piece by piece: a file of two gigabytes costs a window.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

const WINDOW: usize = 64 << 10;

/// Where a graph was read from.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    bytes: Bytes,
    len: u64,
    other_names: bool,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(Vec<u8>),
}

impl Source {
    /// Opens a file that is no link and, unless `other_names` may be, has no second name.
    pub(crate) fn open(path: &Path, other_names: bool) -> Result<Self> {
        let failed = |source| Error::File { doing: "open", path: path.to_path_buf(), source };
        let unreal = |what| Error::NotARealFile { path: path.to_path_buf(), what };
        let metadata = path.symlink_metadata().map_err(failed)?;
        // Asked before it is opened: opening a pipe waits for somebody who writes.
        if let Some(what) = unreal_file(&metadata, other_names) {
            return Err(unreal(what));
        }
        let file = File::open(path).map_err(failed)?;
        let opened = file.metadata().map_err(failed)?;
        if !is_same_file(&metadata, &opened) {
            return Err(unreal("exchanged while it is opened"));
        }
        Ok(Self { path: path.to_path_buf(), bytes: Bytes::File(file), len: opened.len(), other_names })
    }

    /// Bytes in memory under the name `path`.
    pub(crate) fn memory(path: &Path, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self { path: path.to_path_buf(), bytes: Bytes::Memory(bytes), len, other_names: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether it, and the files beside it, may have other names.
    pub(crate) fn other_names(&self) -> bool {
        self.other_names
    }

    /// Fills as much of `target` as there is from `offset` on.
    pub(crate) fn read_at(&self, offset: u64, target: &mut [u8]) -> Result<usize> {
        match &self.bytes {
            Bytes::Memory(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
                let rest = rest.unwrap_or_default();
                let count = rest.len().min(target.len());
                target[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Bytes::File(file) => read_file_at(file, offset, target).map_err(|source| Error::File {
                doing: "read",
                path: self.path.clone(),
                source,
            }),
        }
    }
}

fn read_file_at(file: &File, offset: u64, target: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < target.len() {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(file, &mut target[filled..], offset + filled as u64);
        #[cfg(windows)]
        let read =
            std::os::windows::fs::FileExt::seek_read(file, &mut target[filled..], offset + filled as u64);
        match read {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What keeps `metadata`, which follows no link, from being that of a file of its own.
///
/// A second name would let a model read what lies outside its folder, unless it is known what is in it. Windows
/// tells the number of names only of open files, in an interface that is not stable yet.
pub(crate) fn unreal_file(metadata: &std::fs::Metadata, other_names: bool) -> Option<&'static str> {
    if metadata.is_symlink() {
        return Some("a link");
    }
    if metadata.is_dir() {
        return Some("a folder");
    }
    if !metadata.is_file() {
        return Some("a device or a pipe");
    }
    #[cfg(unix)]
    if !other_names && std::os::unix::fs::MetadataExt::nlink(metadata) != 1 {
        return Some("a file with several names");
    }
    #[cfg(not(unix))]
    let _ = other_names;
    None
}

#[cfg(unix)]
fn is_same_file(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same_file(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    one.len() == other.len() && other.is_file()
}

/// A part of the source in memory, moved to wherever is read.
pub(crate) struct Window<'a> {
    source: &'a Source,
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> Window<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self { source, buffer: Vec::new(), start: 0 }
    }

    /// The bytes from `position` on, at least one unless the source ends there.
    pub(crate) fn bytes(&mut self, position: u64) -> Result<&[u8]> {
        let held = position.checked_sub(self.start).filter(|&skip| skip < self.buffer.len() as u64);
        let skip = match held {
            Some(skip) => skip as usize,
            None => {
                self.buffer.resize(WINDOW, 0);
                let count = self.source.read_at(position, &mut self.buffer)?;
                self.buffer.truncate(count);
                self.start = position;
                0
            }
        };
        Ok(&self.buffer[skip..])
    }
}
