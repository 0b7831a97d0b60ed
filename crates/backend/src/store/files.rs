//! Files that are whole or not there, and how much room is left for more.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Tells the free bytes of a folder's file system.
type Probe = dyn Fn(&Path) -> io::Result<u64> + Send + Sync;

/// How much room downloads leave.
#[derive(Clone)]
pub struct DiskRules {
    /// Free bytes that must remain after a download, before it begins.
    pub margin: u64,
    /// Free bytes that a download under way never takes.
    pub reserve: u64,
    /// Asks the system.
    pub available: Arc<Probe>,
}

impl Default for DiskRules {
    fn default() -> Self {
        Self { margin: 1 << 30, reserve: 200 << 20, available: Arc::new(|path| fs4::available_space(path)) }
    }
}

impl std::fmt::Debug for DiskRules {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DiskRules")
            .field("margin", &self.margin)
            .field("reserve", &self.reserve)
            .finish()
    }
}

impl DiskRules {
    /// Refuses to begin where `bytes` more would leave too little.
    ///
    /// # Errors
    /// [`Error::DiskFull`].
    pub(crate) fn check_before(&self, folder: &Path, bytes: u64) -> Result<()> {
        // File systems need a little beyond the bytes themselves.
        self.check(folder, bytes.saturating_add(bytes / 50).saturating_add(self.margin))
    }

    /// Refuses to go on where the reserve would be taken.
    ///
    /// # Errors
    /// [`Error::DiskFull`].
    pub(crate) fn check_during(&self, folder: &Path, bytes: u64) -> Result<()> {
        self.check(folder, bytes.saturating_add(self.reserve))
    }

    fn check(&self, folder: &Path, needed: u64) -> Result<()> {
        match (self.available)(folder) {
            Ok(available) if available < needed => {
                Err(Error::DiskFull { path: folder.to_path_buf(), missing: needed - available })
            }
            // Where the system does not tell, the write itself will.
            _ => Ok(()),
        }
    }
}

/// The failure of an operation on a file of the library.
pub(crate) fn failed(doing: &'static str, path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::DiskFull { path: path.to_path_buf(), missing: 0 }
        }
        _ => Error::Library { doing, path: path.into(), reason: error.to_string().into() },
    }
}

/// Reads a file of at most `most` bytes.
pub(crate) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("it is larger than {most} bytes")));
    }
    Ok(text)
}

/// Writes a file: whole and renamed into place, or not at all.
pub(crate) fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    let (file, temporary) = file.keep().map_err(|error| error.error)?;
    drop(file);
    if let Err(error) = rename(&temporary, path) {
        std::fs::remove_file(&temporary).ok();
        return Err(error);
    }
    sync_folder(folder);
    Ok(())
}

/// Renames, and again where a virus scanner holds the file for a moment.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let mut result = std::fs::rename(from, to);
    if cfg!(windows) {
        for pause in [10, 50, 200, 1000] {
            match &result {
                // Access denied, a sharing violation, a lock violation.
                Err(error) if matches!(error.raw_os_error(), Some(5 | 32 | 33)) => {
                    std::thread::sleep(std::time::Duration::from_millis(pause));
                    result = std::fs::rename(from, to);
                }
                _ => break,
            }
        }
    }
    result
}

/// Makes the names in a folder last. Only some systems can; on others a rename does by itself.
pub(crate) fn sync_folder(folder: &Path) {
    if cfg!(unix)
        && let Ok(folder) = File::open(folder)
    {
        folder.sync_all().ok();
    }
}

/// Makes a folder and those above it, for this user alone.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| failed("make the folder", folder, &error))
}
