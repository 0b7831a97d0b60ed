//! A file that is on its way: its bytes so far, their hash, and which file they are of.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Builder;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::hub::{Digest, FileHasher};
use crate::store::files::{DiskRules, failed, make_folder, read_bounded, rename, sync_folder, write_whole};
use crate::store::verify::hash;
use crate::store::{RecordedFile, part_path};

/// After so many bytes the free room is looked at again.
const ROOM_INTERVAL: u64 = 16 << 20;
/// Chunks between the disk and the hash.
const CHUNKS_BEHIND: usize = 8;
const LARGEST_SIDECAR: u64 = 64 << 10;

/// What lies beside the bytes.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Sidecar {
    size: u64,
    digest: Digest,
}

/// The bytes of a file so far.
#[derive(Debug)]
pub(super) struct Part {
    target: PathBuf,
    path: PathBuf,
    file: File,
    hasher: FileHasher,
    pub(super) length: u64,
    size: u64,
    digest: Digest,
}

/// How the writing of a body ended.
pub(super) enum Written {
    /// Everything that came is on its way to the disk.
    All,
    /// More came than the file has; nothing of it can be right.
    TooMuch,
}

impl Part {
    /// Opens what is there of `expected` in `folder`, and hashes it; `None` where `stop` came first.
    pub(super) fn open(
        folder: &Path,
        expected: &RecordedFile,
        stop: &CancellationToken,
    ) -> Result<Option<Self>> {
        let target = folder.join(&expected.path);
        let path = part_path(&target);
        if let Some(parent) = target.parent() {
            make_folder(parent)?;
        }
        let sidecar = read_sidecar(&path);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| failed("open", &path, &error))?;
        let mut part = Self {
            hasher: FileHasher::like(&expected.digest, expected.size),
            size: expected.size,
            digest: expected.digest,
            length: 0,
            target,
            path,
            file,
        };
        let there = part.file.metadata().map_err(|error| part.failed(&error))?.len();
        match sidecar {
            Some(sidecar)
                if sidecar.size == part.size && sidecar.digest == part.digest && there <= part.size =>
            {
                let Part { file, hasher, .. } = &mut part;
                let hashed = hash(file, hasher, stop, &mut |_| {}).map_err(|error| part.failed(&error))?;
                let Some(length) = hashed else { return Ok(None) };
                part.length = length;
            }
            // Bytes of another file, or of nobody knows which.
            _ => part.restart()?,
        }
        Ok(Some(part))
    }

    /// Forgets every byte, and notes of which file the next ones are, for the next process too.
    pub(super) fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| self.failed(&error))?;
        self.hasher = FileHasher::like(&self.digest, self.size);
        self.length = 0;
        let sidecar = Sidecar { size: self.size, digest: self.digest };
        let path = sidecar_path(&self.path);
        let written =
            serde_json::to_vec(&sidecar).map_err(io::Error::from).and_then(|text| write_whole(&path, &text));
        written.map_err(|error| self.failed(&error))
    }

    /// Appends every chunk that comes. What was written is hashed on a thread of its own: either takes about as long
    /// as the other.
    pub(super) fn take_all<B: AsRef<[u8]> + Send>(
        mut self,
        mut chunks: mpsc::Receiver<B>,
        disk: &DiskRules,
    ) -> (Self, Result<Written>) {
        let (hand, handed) = sync_channel::<B>(CHUNKS_BEHIND);
        let mut hasher = self.hasher.clone();
        let written = std::thread::scope(|scope| {
            let hashing = || handed.into_iter().for_each(|chunk| hasher.update(chunk.as_ref()));
            match Builder::new().name("download hash".into()).spawn_scoped(scope, hashing) {
                Ok(_) => self.write_all(&mut chunks, hand, disk),
                Err(error) => Err(self.failed(&error)),
            }
        });
        self.hasher = hasher;
        let result = match written {
            Ok(Written::TooMuch) => self.restart().map(|()| Written::TooMuch),
            written => written,
        };
        (self, result)
    }

    /// Writes every chunk that comes, and hands on those that were written.
    fn write_all<B: AsRef<[u8]>>(
        &mut self,
        chunks: &mut mpsc::Receiver<B>,
        hand: SyncSender<B>,
        disk: &DiskRules,
    ) -> Result<Written> {
        let mut unchecked = ROOM_INTERVAL;
        while let Some(chunk) = chunks.blocking_recv() {
            let bytes = chunk.as_ref();
            if self.length + bytes.len() as u64 > self.size {
                return Ok(Written::TooMuch);
            }
            unchecked += bytes.len() as u64;
            if unchecked >= ROOM_INTERVAL {
                unchecked = 0;
                let folder = self.path.parent().unwrap_or(&self.path);
                disk.check_during(folder, ROOM_INTERVAL.min(self.size - self.length))?;
            }
            self.append(bytes).map_err(|error| self.failed(&error))?;
            // Whoever hashes ends after this one.
            hand.send(chunk).ok();
        }
        Ok(Written::All)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // Some of it may be on the disk: only what is hashed counts.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.length == self.size
    }

    /// The digest of the bytes so far.
    pub(super) fn found(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Puts the file, whose bytes are known to be right, in its place.
    ///
    /// # Errors
    /// [`Error::Library`], [`Error::DiskFull`].
    pub(super) fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        rename(&self.path, &self.target).map_err(|error| self.failed(&error))?;
        std::fs::remove_file(sidecar_path(&self.path)).ok();
        if let Some(parent) = self.target.parent() {
            sync_folder(parent);
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Error {
        match failed("write", &self.path, error) {
            Error::DiskFull { path, .. } => Error::DiskFull { path, missing: self.size - self.length },
            other => other,
        }
    }
}

fn read_sidecar(part: &Path) -> Option<Sidecar> {
    serde_json::from_slice(&read_bounded(&sidecar_path(part), LARGEST_SIDECAR).ok()?).ok()
}

fn sidecar_path(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}
