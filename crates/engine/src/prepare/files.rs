//! The files of a preparation: names, the lock, and what a killed run left behind.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use graph::{Limits, preflight};
use sha2::{Digest, Sha256};

use super::record::{self, FileStamp, Prepared, PreparedGraph};
use crate::{Error, Result};

/// Everything that is not finished has a name that begins with this.
const UNFINISHED: &str = ".hearth-prepare-";
const LOCK: &str = ".hearth-prepare-lock";
const RECORD: &str = "prepared.json";
/// How often a lock is tried whose file was removed in the moment before.
const ATTEMPTS: usize = 5;

/// The files that belong to one graph, all in its folder: what the original refers to is found there.
pub(super) struct Names {
    original: PathBuf,
}

impl Names {
    pub(super) fn of(original: &Path) -> Self {
        Self { original: original.to_path_buf() }
    }

    pub(super) fn original(&self) -> &Path {
        &self.original
    }

    pub(super) fn record(&self) -> PathBuf {
        self.beside(RECORD)
    }

    /// The prepared graph: `model.hearth.onnx` beside `model.onnx`.
    pub(super) fn prepared(&self) -> PathBuf {
        self.original.with_extension("hearth.onnx")
    }

    /// The names that a file of weights may have: while a new one is made, the old one is in use.
    fn data(&self) -> [String; 2] {
        ["hearth.onnx_data", "hearth-2.onnx_data"]
            .map(|extension| file_name(&self.original.with_extension(extension)))
    }

    /// A name for a file of weights that no finished preparation uses, or else that has no file.
    pub(super) fn free_data(&self) -> String {
        let [one, other] = self.data();
        let is_taken = match record::data_of(self) {
            Some(used) => used.contains(&one),
            None => self.beside(&one).exists(),
        };
        if is_taken { other } else { one }
    }

    /// A file beside the original.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.original.with_file_name(name)
    }

    pub(super) fn candidate(&self, index: usize) -> Candidate {
        Candidate(self.beside(&format!("{UNFINISHED}{index}.onnx")))
    }

    fn folder(&self) -> &Path {
        self.original.parent().unwrap_or(Path::new("."))
    }

    /// Keeps other processes from preparing the same graph, and removes what a killed one left behind.
    ///
    /// # Errors
    /// [`Error::FolderUnwritable`]; [`Error::Invalid`] where another process is at it.
    pub(super) fn lock(&self) -> Result<Lock<'_>> {
        let failed = |source| Error::FolderUnwritable { path: self.folder().to_path_buf(), source };
        let path = self.beside(LOCK);
        for _ in 0..ATTEMPTS {
            let file =
                File::options().create(true).write(true).truncate(false).open(&path).map_err(failed)?;
            match file.try_lock() {
                // Whoever held it before removed its file: this one may have no name any more, and the next
                // process would lock another.
                Ok(()) if !is_still_at(&file, &path) => {}
                Ok(()) => {
                    let lock = Lock { names: self, _file: file };
                    self.sweep(false);
                    return Ok(lock);
                }
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let folder = self.folder().display();
        let reason = format!("the model in `{folder}` is being prepared by another process; wait for it");
        Err(Error::Invalid { reason })
    }

    /// Removes what a killed preparation left behind, if there is anything and nobody is at it.
    pub(super) fn remove_leftovers(&self) {
        if self.unfinished().next().is_some() {
            // Whoever holds the lock cleans up; a folder that cannot be written cannot be cleaned.
            drop(self.lock());
        }
    }

    /// Everything that belongs to a preparation and to no record.
    fn unfinished(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        let (data, used) = (self.data(), record::data_of(self));
        let is_unfinished = move |name: &str| {
            // A file of weights that is being written has a name that goes on.
            let is_data = data.iter().any(|data| name.strip_prefix(data.as_str()).is_some_and(is_part));
            let is_unused = used.as_ref().is_some_and(|used| !used.iter().any(|used| used == name));
            name.starts_with(UNFINISHED) || is_data && is_unused
        };
        entries
            .filter(move |entry| is_unfinished(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
    }

    /// Removes everything unfinished, the lock at the end of a preparation only.
    fn sweep(&self, with_lock: bool) {
        for path in self.unfinished().filter(|path| with_lock || !path.ends_with(LOCK)) {
            remove(&path);
        }
    }

    /// Puts a candidate in the place of the prepared graph. All that may fail is done before, and the old
    /// record goes first: a graph that none describes is not used.
    ///
    /// # Errors
    /// [`Error::FileUnwritable`].
    pub(super) fn put_in_place(&self, candidate: Candidate, limits: &Limits) -> Result<PreparedGraph> {
        let path = self.prepared();
        let failed = |source| Error::FileUnwritable { path: path.clone(), source };
        let sha256 = sha256(&candidate.0).map_err(failed)?;
        let own = self.data();
        let report = preflight::check(&candidate.0, limits)?;
        let data = report.files.iter().filter(|file| own.contains(file));
        let data = data.map(|file| stamp(&self.beside(file))).collect::<std::io::Result<_>>();
        let data = data.map_err(failed)?;
        remove_file(&self.record())?;
        fs::rename(&candidate.0, &path).map_err(failed)?;
        Ok(PreparedGraph { file: file_name(&path), sha256, data })
    }

    /// Removes the result of an earlier preparation. The record goes first: it never names what is not there.
    ///
    /// # Errors
    /// [`Error::FileUnwritable`].
    pub(super) fn remove_prepared(&self) -> Result<()> {
        remove_file(&self.record())?;
        remove_file(&self.prepared())
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    /// [`Error::FileUnwritable`].
    pub(super) fn write_record(&self, prepared: &Prepared) -> Result<()> {
        let path = self.record();
        let failed = |source| Error::FileUnwritable { path: path.clone(), source };
        let part = self.beside(&format!("{UNFINISHED}record"));
        let text = serde_json::to_vec_pretty(prepared).map_err(|error| failed(error.into()))?;
        let mut file = File::create(&part).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&part, &path).map_err(failed)
    }
}

/// Whether what follows the name of a file of weights is nothing, or marks it as unfinished.
fn is_part(rest: &str) -> bool {
    rest.is_empty() || rest == ".part"
}

/// Held while a model is prepared. Dropped, it takes everything unfinished away, itself included.
pub(super) struct Lock<'a> {
    names: &'a Names,
    _file: File,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        self.names.sweep(true);
    }
}

/// A rewritten graph that is not accepted yet. Dropped, its file is gone.
pub(super) struct Candidate(PathBuf);

impl Candidate {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes a file that may be gone already.
///
/// # Errors
/// [`Error::FileUnwritable`].
fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::FileUnwritable { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// Whether the name still stands for the open file.
#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let name_of = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => name_of(open) == name_of(named),
        _ => false,
    }
}

/// Here a name that was removed is gone once nobody has its file open.
#[cfg(not(unix))]
fn is_still_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "an unfinished file stays behind");
        }
        _ => {}
    }
}

/// The size and time of a real file.
pub(super) fn stamp(path: &Path) -> std::io::Result<FileStamp> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is no file of its own"));
    }
    let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let modified = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
    Ok(FileStamp { name: file_name(path), bytes: metadata.len(), modified })
}

/// The SHA-256 of a real file in hexadecimal digits.
pub(super) fn sha256(path: &Path) -> std::io::Result<String> {
    stamp(path)?;
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hexadecimal(&hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The SHA-256 of whichever of these small files there are.
pub(super) fn sha256_of_those(paths: &[PathBuf]) -> String {
    let mut hash = Sha256::new();
    for path in paths {
        let bytes = stamp(path).ok().and_then(|_| fs::read(path).ok()).unwrap_or_default();
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    hexadecimal(&hash.finalize())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `name` in the place of the last part of `graph`, which is relative to the model folder.
pub(super) fn sibling(graph: &str, name: &str) -> String {
    match graph.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{name}"),
        None => name.to_owned(),
    }
}
